/* uWebSockets.js: a topic that all clients subscribe to. */
import uws from "uwebsockets"

const app = uws.App()
app.ws("/stream", {
  idleTimeout: 0,
  message: socket => {
    socket.subscribe("ticks")
    socket.send('{"type":"ready"}')
  },
})
app.post("/publish", response => {
  const parts = []
  response.onAborted(() => {})
  response.onData((part, isLast) => {
    parts.push(Buffer.from(part.slice(0)))
    if (!isLast) return
    app.publish("ticks", Buffer.concat(parts))
    response.end()
  })
})
app.listen("127.0.0.1", Number(process.argv[2]), () => {})
