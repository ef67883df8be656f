# Shows index.html under every path, until something is deployed.
require "webrick"

page = File.binread("index.html")
server = WEBrick::HTTPServer.new(Port: ENV.fetch("PORT").to_i, BindAddress: "0.0.0.0")
server.mount_proc("/") do |_request, response|
  response.content_type = "text/html; charset=utf-8"
  response["Cache-Control"] = "no-store"
  response.body = page
end
trap("TERM") { server.shutdown }
server.start
