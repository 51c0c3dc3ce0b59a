/* better-sse: a channel that broadcasts. */
import { createServer } from "node:http"
import { createChannel, createSession } from "better-sse"

const channel = createChannel()

createServer(async (request, response) => {
  if (request.method === "POST") {
    let text = ""
    for await (const part of request) text += part
    channel.broadcast(JSON.parse(text))
    return response.end()
  }
  const session = await createSession(request, response)
  session.push({}, "ready")
  channel.register(session)
}).listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 })
