/* ws: a loop over all clients. */
import { createServer } from "node:http"
import { WebSocketServer } from "ws"

const server = createServer(async (request, response) => {
  let text = ""
  for await (const part of request) text += part
  const data = Buffer.from(text)
  for (const client of sockets.clients) client.send(data, { binary: false })
  response.end()
})
const sockets = new WebSocketServer({ server, path: "/stream" })
sockets.on("connection", socket => socket.once("message", () => socket.send('{"type":"ready"}')))
server.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 })
