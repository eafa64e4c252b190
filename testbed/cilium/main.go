// Command cilium is Cilium's agent, its CNI plugin and its command line in one static binary, chosen by the name it is
// called by: cilium-agent, cilium-cni, anything else.
package main

import (
	"os"
	"path/filepath"
	"runtime"

	dbg "github.com/cilium/cilium/cilium-dbg/cmd"
	agent "github.com/cilium/cilium/daemon/cmd"
	"github.com/cilium/cilium/pkg/hive"
	cni "github.com/cilium/cilium/plugins/cilium-cni/cmd"
)

func main() {
	switch filepath.Base(os.Args[0]) {
	case "cilium-agent":
		agent.Execute(agent.NewAgentCmd(func() *hive.Hive { return hive.New(agent.Agent) }))
	case "cilium-cni":
		// The plugin changes network namespaces, which are per thread.
		runtime.LockOSThread()
		cni.PluginMain()
	default:
		dbg.Execute()
	}
}
