// Package command has the end-to-end tests of the command defenderhub: the built program against
// the local AWS.
package command
