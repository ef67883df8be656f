// Shows index.html under every path, until something is deployed.
const fs = require("fs");
const http = require("http");

const page = fs.readFileSync("index.html");

http.createServer((request, response) => {
  response.writeHead(200, {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Length": page.length,
    "Cache-Control": "no-store",
  });
  response.end(request.method === "HEAD" ? undefined : page);
}).listen(process.env.PORT);
