"""The couriers: Server-Sent Events and WebSocket. One file of protocol and one of I/O for each wire."""
