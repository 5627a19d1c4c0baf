package defenderhub

import "fmt"

// Provision says how a resource is provided that exists once per account and Region.
type Provision int

const (
	// Create creates the resource with the stack.
	Create Provision = iota
	// Existing leaves alone a resource that the account and Region already have, for example
	// from a visit to the console. CloudFormation cannot create it a second time.
	Existing
	// Off does without the resource.
	Off
)

// String is the name that the app's configuration uses.
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
