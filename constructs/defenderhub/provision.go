package defenderhub

import "fmt"

// Provision says how to provide a resource that exists once per account and Region.
type Provision int

const (
	// Create creates the resource with the stack.
	Create Provision = iota
	// Existing uses a resource that the account and Region already have, for example because
	// somebody created it in the console. CloudFormation cannot create it a second time.
	Existing
	// Off leaves out the resource.
	Off
)

// String returns the name in the app's settings.
func (p Provision) String() string {
	switch p {
	case Create:
		return "create"
	case Existing:
		return "existing"
	case Off:
		return "off"
	}
	return fmt.Sprintf("Provision(%d)", int(p))
}
