// Vault, built from its published module: its releases cannot be had from every network, its module
// can. `go.sum` holds the checksum of everything that goes into it.
package main

import (
	"os"

	"github.com/hashicorp/vault/command"
)

func main() {
	os.Exit(command.Run(os.Args[1:]))
}
