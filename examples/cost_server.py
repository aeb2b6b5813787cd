"""A cost behind an address: any language and any machine will do, as long as it answers like this.

python examples/cost_server.py 5000 &
rad-train --preset tiny --profile medical --set cost.remote_url=http://127.0.0.1:5000/costs
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Costs(BaseHTTPRequestHandler):
    """Takes query (prompt + answer), prompts and labels of a whole rollout; gives a cost for each."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answers = (q[len(p) :] for q, p in zip(asked["query"], asked["prompts"], strict=True))
        body = json.dumps({"costs": [float(answer.count("harm")) for answer in answers]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Costs) as server:
        print(f"http://127.0.0.1:{server.server_port}/costs", flush=True)
        server.serve_forever()
