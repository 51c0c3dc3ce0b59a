/* floor: the least that a server can do to send events to many clients: epoll, one send() for each client.
 *
 * floor PORT, and lines on stdin:
 *   run SECONDS JOIN RATE SIZE   make events and send each to all clients; JOIN of them in one send(); RATE a second,
 *                                0: the next as soon as the kernel took the last. SIZE: the bytes of a frame.
 *                                Answers with {"seconds": …, "events": …, "cpu": …}
 *
 * It parses nothing but the end of the request, knows no tables, no rights and no positions, and makes its events
 * from nothing: it is what the kernel's sockets cost, and no product.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 65536, EVENTS = 1024, BUFFER = 1 << 20 };

struct client { int open, waits; char *rest; size_t size; };

static struct client clients[MOST];
static int highest, epoll, waiting;
static char message[BUFFER];
static const char HEAD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
    "Cache-Control: no-store, no-transform\r\n\r\n21\r\nid: 1~1:1:\nevent: ready\ndata: {}\n\n\r\n";

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static double cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void die(const char *what) { perror(what), exit(1); }

static void watch(int fd, int change, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll, change, fd, &event)) die("epoll_ctl");
}

static void drop(int fd) {
    struct client *client = &clients[fd];
    waiting -= client->waits;
    free(client->rest);
    memset(client, 0, sizeof *client);
    close(fd);
}

static void keep(int fd, const char *data, size_t size) {
    struct client *client = &clients[fd];
    char *rest = malloc(size);
    memcpy(rest, data, size);
    free(client->rest);
    client->rest = rest, client->size = size;
    if (!client->waits) client->waits = 1, waiting++, watch(fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
}

static void give(int fd, const char *data, size_t size) {
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent == (ssize_t)size) return;
    if (sent < 0 && errno != EAGAIN) drop(fd);
    else keep(fd, data + (sent > 0 ? sent : 0), size - (size_t)(sent > 0 ? sent : 0));
}

static void go_on(int fd) {
    struct client *client = &clients[fd];
    ssize_t sent = send(fd, client->rest, client->size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) { if (errno != EAGAIN) drop(fd); return; }
    if ((size_t)sent < client->size) { keep(fd, client->rest + sent, client->size - (size_t)sent); return; }
    free(client->rest);
    client->rest = NULL, client->waits = 0, waiting--;
    watch(fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLRDHUP);
}

static void hear(int fd) {
    char data[4096];
    ssize_t size = recv(fd, data, sizeof data, 0);
    if (size == 0 || (size < 0 && errno != EAGAIN)) { drop(fd); return; }
    if (size < 4 || clients[fd].open || memcmp(data + size - 4, "\r\n\r\n", 4)) return;
    clients[fd].open = 1;
    give(fd, HEAD, sizeof HEAD - 1);
}

static void welcome(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), on = 1;
        if (fd < 0) return;
        if (fd >= MOST) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (fd > highest) highest = fd;
        watch(fd, EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP);
    }
}

static int listener;

/* Serve what happens for so long; return whether stdin has a line. */
static int serve(int milliseconds) {
    struct epoll_event events[EVENTS];
    int n = epoll_wait(epoll, events, EVENTS, milliseconds), line = 0;
    for (int i = 0; i < n; i++) {
        int fd = events[i].data.fd;
        if (fd == 0) line = 1;
        else if (fd == listener) welcome(listener);
        else if (events[i].events & EPOLLOUT) go_on(fd);
        else hear(fd);
    }
    return line;
}

/* Frames as the product sends them, with a stamp of now, in one chunk. */
static size_t compose(int64_t number, int join, int size) {
    static char frames[BUFFER];
    size_t length = 0;
    for (int i = 0; i < join; i++) {
        size_t begin = length;
        length += (size_t)sprintf(frames + length, "id: 4f0c3d5e9a10~%lld:%lld:\nevent: insert\ndata: {\"id\":\"%lld\",\"type\":\"insert\",\"stamp\": \"^%lld^\",\"row\":\"",
                                  (long long)number, (long long)number, (long long)(number + i), (long long)(now() % 1000000000000LL));
        while (length - begin + 5 < (size_t)size) frames[length++] = 'x';
        length += (size_t)sprintf(frames + length, "\"}\n\n");
    }
    size_t whole = (size_t)sprintf(message, "%zx\r\n", length);
    memcpy(message + whole, frames, length);
    memcpy(message + whole + length, "\r\n", 2);
    return whole + length + 2;
}

static void run(double seconds, int join, double rate, int size) {
    int64_t start = now(), events = 0, last = 0;
    double used = cpu();
    while (now() - start < seconds * 1e6) {
        while (rate > 0 && (double)events / rate * 1e6 > (double)(now() - start)) serve(1);
        size_t length = compose(events, join, size);
        for (int fd = 3; fd <= highest; fd++)
            if (clients[fd].open) give(fd, message, length);
        events += join;
        while (waiting) serve(1000);
        if (now() - last > 1000) serve(0), last = now(); /* who leaves is noticed, but not after each event */
    }
    printf("{\"seconds\": %.6f, \"events\": %lld, \"cpu\": %.6f}\n", (now() - start) / 1e6, (long long)events, cpu() - used);
    fflush(stdout);
}

int main(int argc, char **argv) {
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argc > 1 ? argv[1] : "0"))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) die("listen");
    epoll = epoll_create1(0);
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    watch(0, EPOLL_CTL_ADD, EPOLLIN);
    printf("listening\n");
    fflush(stdout);
    for (char line[256];;) {
        if (!serve(1000)) continue;
        double seconds, rate;
        int join, size;
        if (!fgets(line, sizeof line, stdin)) return 0;
        if (sscanf(line, "run %lf %d %lf %d", &seconds, &join, &rate, &size) == 4) run(seconds, join, rate, size);
    }
}
