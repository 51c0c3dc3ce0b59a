/* websocket: what a client of load.c says to a server of WebSockets, and to one of Socket.IO over them. */
#include <string.h>
#include <unistd.h>

/* The headers of a browser, up to the port of its Origin. */
static const char upgrade[] =
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: en-US,en;q=0.9\r\nCache-Control: no-cache\r\nPragma: no-cache\r\n"
    "Cookie: session=.eJwlzjkOwjAQAMC_uKbYw961-Uzk7CFoE1Ih_o4l2qnm07Y84ny0-_u44tbaiZFTt72.Z3x9Fg;"
    " theme=dark; seen=1\r\nSec-WebSocket-Extensions: permessage-deflate\r\nOrigin: http://localhost:";

/* The first message, after the 101. Of Socket.IO: "connect me to the namespace /". */
static const char subscription[] = "{\"type\":\"subscribe\",\"ref\":\"1\",\"table\":\"ticks\"}", sio_connect[] = "40";

/* Engine.IO's ping is a message of its own, and nothing else has these bytes: a text is ASCII, a long frame's second
 * byte is more than 125. */
static const char sio_ping[] = {(char)0x81, 1, '2'}, sio_pong[] = "3";

/* A text of at most 125 bytes. The mask is four zeros, so it is as it is. Returns 0 when it could not be written. */
static int say(int fd, const char *text) {
    size_t size = strlen(text);
    char message[6 + 125] = {(char)0x81, (char)(0x80 | size)};
    memcpy(message + 6, text, size);
    return write(fd, message, 6 + size) == (ssize_t)(6 + size);
}
