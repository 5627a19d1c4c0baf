// Package rie holds nothing: its module pins AWS's Lambda Runtime Interface
// Emulator as a Go tool, apart from the test module, which its dependencies would
// burden.
package rie
