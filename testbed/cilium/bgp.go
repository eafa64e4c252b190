// Takes the place of Cilium's package pkg/bgp, the BGP control plane, which a single node doesn't need and one of whose
// dependencies (gobgp) can't be downloaded as a module: the API answers that BGP is disabled, and nothing runs.
package bgp

import (
	"github.com/cilium/hive/cell"
	"github.com/go-openapi/runtime/middleware"

	"github.com/cilium/cilium/api/v1/server/restapi/bgp"
	"github.com/cilium/cilium/pkg/bgp/option"
)

var Cell = cell.Module(
	"bgp-control-plane",
	"BGP control plane left out",

	cell.Config(option.DefaultConfig),
	cell.Provide(
		func() bgp.GetBgpPeersHandler {
			return bgp.GetBgpPeersHandlerFunc(func(bgp.GetBgpPeersParams) middleware.Responder {
				return bgp.NewGetBgpPeersDisabled()
			})
		},
		func() bgp.GetBgpRoutesHandler {
			return bgp.GetBgpRoutesHandlerFunc(func(bgp.GetBgpRoutesParams) middleware.Responder {
				return bgp.NewGetBgpRoutesDisabled()
			})
		},
		func() bgp.GetBgpRoutePoliciesHandler {
			return bgp.GetBgpRoutePoliciesHandlerFunc(func(bgp.GetBgpRoutePoliciesParams) middleware.Responder {
				return bgp.NewGetBgpRoutePoliciesDisabled()
			})
		},
	),
)
