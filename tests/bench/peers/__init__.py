"""Peers: other programs that send events to many clients, each with as little around it as its own manual shows.

Each is a program that takes a port and serves two paths there: `GET /stream`, an endless stream that begins with an
event `ready`, or a WebSocket that answers its client's first message with `{"type":"ready"}` (Flask-SocketIO has a path
and messages of its own); and `POST /publish`, whose body goes to all clients as it is. What the product does beside
that (a database, rights, positions, resuming) none of them does here.
"""
