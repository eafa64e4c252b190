"""The regular node's own proxy, served as the node serves it (`__proxy_server_worker` in vantage6-node 4.5.5): regular_proxy.py PORT SERVER."""

import logging
import sys

from gevent.pywsgi import WSGIServer
from vantage6.node import proxy_server

logging.disable(logging.CRITICAL)
proxy_server.app.config["SERVER_IO"] = object()
proxy_server.server_url = sys.argv[2]
WSGIServer(("127.0.0.1", int(sys.argv[1])), proxy_server.app, log=None).serve_forever()
