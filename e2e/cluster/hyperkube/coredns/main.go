// CoreDNS with the plugins that a cluster without a way out needs. Its own main, because CoreDNS
// registers its flags globally when it is imported.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

func init() {
	// The order in which a query meets the plugins.
	dnsserver.Directives = []string{"ready", "errors", "kubernetes"}
}

func main() { coremain.Run() }
