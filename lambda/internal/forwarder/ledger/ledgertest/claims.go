package ledgertest

import (
	"context"
	"time"

	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// Claim claims one signal.
func Claim(ctx context.Context, l *ledger.Ledger, now time.Time, s signal.Signal) (ledger.Claim, error) {
	return Request(ctx, l, now, l.Signal(now, s))
}

// Request makes one claim.
func Request(ctx context.Context, l *ledger.Ledger, now time.Time, r ledger.Request) (ledger.Claim, error) {
	claims, faults := l.Claims(ctx, now, []ledger.Request{r})
	return claims[0], faults[0]
}

// Confirm confirms one claim.
func Confirm(ctx context.Context, l *ledger.Ledger, now time.Time, c ledger.Claim) error {
	return l.Confirm(ctx, now, []ledger.Claim{c})[0]
}
