package mqtt

// Connection returns the connection of a client, if it is connected.
func (b *Broker) Connection(clientID string) (Connection, bool) {
	c, ok := read(b.sessions, b.sessions.active, clientID)
	if !ok {
		return Connection{}, false
	}
	return b.sessions.recordOf(c), true
}
