package handler

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane/types"

	"github.com/defenderhub/defenderhub/internal/engine"
)

// connection is an answer of AWS IoT; ok is false if there is none.
type connection struct {
	engine.Connection
	ok bool
}

// connection asks AWS IoT whether a client is connected, at most once per visit. A client that
// AWS IoT does not know is not connected.
func (h *Handler) connection(ctx context.Context, v *visit) func(string) (engine.Connection, bool) {
	return func(clientID string) (engine.Connection, bool) {
		c, asked := v.connections[clientID]
		if !asked {
			if v.connections == nil {
				v.connections = map[string]connection{}
			}
			c = h.getConnection(ctx, clientID)
			v.connections[clientID] = c
		}
		return c.Connection, c.ok
	}
}

func (h *Handler) getConnection(ctx context.Context, clientID string) connection {
	out, err := h.IoTData.GetConnection(ctx, &iotdataplane.GetConnectionInput{ClientId: &clientID})
	var missing *types.ResourceNotFoundException
	switch {
	case errors.As(err, &missing):
		return connection{ok: true}
	case err != nil:
		h.Log.Warn("connection of a device is not known: its silence is not judged", "device", clientID, "reason", err.Error())
		return connection{}
	case out.Connected:
		return connection{engine.Connection{Connected: true, Since: out.ConnectedSince}, true}
	}
	return connection{engine.Connection{Since: out.DisconnectedSince}, true}
}
