/* load: many clients of one stream in one process, which counts what arrives and how late.
 *
 * load PORT CLIENTS TARGET [read|stall|trickle|ws|ws-stall|sio]
 *
 * Opens the streams, says {"connected": …} once each has got its first event, and then obeys lines on stdin:
 *   begin K   forget what was counted; from now on say `J` whenever every client has got J times K more frames
 *   end       say what was counted since `begin`, as one line of JSON
 *   drop      close all connections at once, by a FIN, and say when (microseconds)
 *   frames    say how many frames the client with the fewest, and the one with the most, has got since `begin`
 * and ends at the end of stdin.
 *
 * A frame counts when its time stamp arrived: ^microseconds^, the last 12 digits of them (with more the product would
 * look whether JavaScript garbles the number). Nothing else in a stream may contain a ^.
 * Each request has its client's number in the header X-Client.
 * `ws` opens WebSockets, each of which subscribes to the table `ticks`, with the headers that a browser sends;
 * `sio` connects to Socket.IO over them, and answers its pings.
 * `stall` reads nothing after the first event; `trickle` reads 50 bytes each 10 ms; both keep a small receive buffer.
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

#include "websocket.h"

enum { OPENING_AT_ONCE = 100, EVENTS = 1024, BUFFER = 1 << 17, STEPS = 4096, SLOW_BUFFER = 4096, TRICKLE_BYTES = 50 };
/* Delays are counted in buckets of 1/16 of a power of two: 6 % wide at most, whatever the delay. */
enum { BUCKETS = 64 * 16 };

struct client {
    int fd, ready, ended;
    char tail[16]; /* the last bytes before `ready`, which may come in two parts */
    int in_stamp, subscribed;
    int64_t stamp;
    int64_t frames;
};

static struct client *clients;
static int count, opened, ready, ended;
static int is_slow, is_stalled, trickling, is_ws, is_sio;
static int epoll;
static struct sockaddr_in address;
static const char *target;
static char request[4096], buffer[BUFFER];
static int64_t frames, bytes, reads, began_at, every, reached[STEPS], told;
static int64_t delays[BUCKETS], longest;
static double cpu_at_begin;

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

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int bucket_of(int64_t delay) {
    if (delay < 16) return delay < 0 ? 0 : (int)delay;
    int power = 63 - __builtin_clzll((uint64_t)delay);
    return (power - 3) * 16 + (int)((delay >> (power - 4)) & 15);
}

static int64_t start_of(int bucket) {
    return bucket < 16 ? bucket : (int64_t)(16 + bucket % 16) << (bucket / 16 - 1);
}

static void note_frame(struct client *client, int64_t at) {
    int64_t delay = at % 1000000000000LL - client->stamp;
    delays[bucket_of(delay)]++;
    if (delay > longest) longest = delay;
    frames++;
    client->frames++;
    if (every && client->frames % every == 0) {
        reached[client->frames / every % STEPS]++;
        while (reached[(told + 1) % STEPS] == count) {
            reached[++told % STEPS] = 0;
            printf("%lld\n", (long long)told);
            fflush(stdout);
        }
    }
}

static void count_frames(struct client *client, const char *data, ssize_t size, int64_t at) {
    const char *end = data + size;
    while (data < end) {
        if (!client->in_stamp) {
            data = memchr(data, '^', (size_t)(end - data));
            if (!data) return;
            client->in_stamp = 1, client->stamp = 0, data++;
        }
        while (data < end && *data >= '0' && *data <= '9') client->stamp = client->stamp * 10 + (*data++ - '0');
        if (data == end) return;
        client->in_stamp = 0, data++; /* the closing ^ */
        note_frame(client, at);
    }
}

static void watch(struct client *client, int change, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(epoll, change, client->fd, &event)) die("epoll_ctl");
}

static void open_one(struct client *client) {
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->fd < 0) die("socket");
    int small = SLOW_BUFFER;
    if (is_slow) setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
    watch(client, EPOLL_CTL_ADD, EPOLLOUT);
}

static void ask(struct client *client) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) errno = error, die("connect");
    int port = ntohs(address.sin_port);
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: localhost:%d\r\nAccept: text/event-stream\r\nX-Client: %d\r\n",
                          target, port, (int)(client - clients));
    if (is_ws)
        length += snprintf(request + length, sizeof request - (size_t)length, "%s%d\r\n", upgrade, port);
    length += snprintf(request + length, sizeof request - (size_t)length, "\r\n");
    if (write(client->fd, request, (size_t)length) != length) die("request");
    watch(client, EPOLL_CTL_MOD, EPOLLIN);
}

static void look_for_ready(struct client *client, const char *data, ssize_t size) {
    static char text[BUFFER + sizeof client->tail];
    size_t kept = strnlen(client->tail, sizeof client->tail);
    memcpy(text, client->tail, kept);
    memcpy(text + kept, data, (size_t)size);
    size_t whole = kept + (size_t)size;
    if (is_ws && !client->subscribed) {
        if (!say(client->fd, is_sio ? sio_connect : subscription)) die("subscribe");
        client->subscribed = 1;
    }
    const char *sign = is_ws ? "\"ready\"" : "ready"; /* behind it \n or \r\n, before it a space or none */
    if (memmem(text, whole, sign, strlen(sign))) {
        client->ready = 1, ready++;
        if (is_stalled || trickling) watch(client, EPOLL_CTL_MOD, 0);
    }
    size_t rest = whole < 11 ? whole : 11;
    memset(client->tail, 0, sizeof client->tail);
    memcpy(client->tail, text + whole - rest, rest);
}

static void read_some(struct client *client, size_t most) {
    ssize_t size = recv(client->fd, buffer, most, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
        client->ended = 1, ended++;
        close(client->fd);
        return;
    }
    bytes += size, reads++;
    if (is_sio && memmem(buffer, (size_t)size, sio_ping, sizeof sio_ping) && !say(client->fd, sio_pong)) die("pong");
    if (!client->ready)
        look_for_ready(client, buffer, size);
    else
        count_frames(client, buffer, size, now());
}

static void step(int milliseconds) {
    struct epoll_event events[EVENTS];
    int n = epoll_wait(epoll, events, EVENTS, milliseconds);
    for (int i = 0; i < n; i++) {
        struct client *client = events[i].data.ptr;
        if (!client) continue; /* stdin: looked at by the caller */
        if (events[i].events & EPOLLOUT)
            ask(client);
        else
            read_some(client, BUFFER);
    }
}

static void open_all(void) {
    int64_t start = now();
    double cpu_start = cpu();
    while (ready < count) {
        while (opened < count && opened - ready < OPENING_AT_ONCE) open_one(&clients[opened++]);
        step(1000);
        if (ended) { fprintf(stderr, "load: the server closed a stream: %.500s\n", buffer); exit(1); }
        if (now() - start > 120 * 1000000LL) { fprintf(stderr, "load: only %d of %d are ready\n", ready, count); exit(1); }
    }
    printf("{\"connected\": %d, \"seconds\": %.3f, \"cpu\": %.3f}\n", ready, (now() - start) / 1e6, cpu() - cpu_start);
    fflush(stdout);
}

static void begin(int64_t k) {
    memset(delays, 0, sizeof delays);
    memset(reached, 0, sizeof reached);
    for (int i = 0; i < count; i++) clients[i].frames = 0;
    frames = bytes = reads = longest = told = 0;
    every = k, began_at = now(), cpu_at_begin = cpu();
}

static double percentile(double share) {
    int64_t wanted = (int64_t)(share * (double)frames), seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += delays[i]) > wanted) return (double)(start_of(i) + start_of(i + 1)) / 2e3;
    return (double)longest / 1e3;
}

static void fewest_and_most(int64_t *fewest, int64_t *most) {
    *fewest = INT64_MAX, *most = 0;
    for (int i = 0; i < count; i++) {
        if (clients[i].frames < *fewest) *fewest = clients[i].frames;
        if (clients[i].frames > *most) *most = clients[i].frames;
    }
}

static void report(void) {
    int64_t fewest, most;
    fewest_and_most(&fewest, &most);
    printf("{\"seconds\": %.6f, \"cpu\": %.6f, \"frames\": %lld, \"bytes\": %lld, \"reads\": %lld, \"ended\": %d, "
           "\"fewest\": %lld, \"most\": %lld, \"p50\": %.3f, \"p95\": %.3f, \"p99\": %.3f, \"max\": %.3f}\n",
           (now() - began_at) / 1e6, cpu() - cpu_at_begin, (long long)frames, (long long)bytes, (long long)reads, ended,
           (long long)fewest, (long long)most, percentile(.5), percentile(.95), percentile(.99), longest / 1e3);
}

static void drop_all(void) {
    int64_t at = now();
    for (int i = 0; i < count; i++)
        if (!clients[i].ended) close(clients[i].fd), clients[i].ended = 1, ended++;
    printf("%lld\n", (long long)at);
}

static void obey(const char *line) {
    int64_t fewest, most;
    if (!strncmp(line, "begin", 5)) begin(atoll(line + 5)), printf("begun\n");
    if (!strcmp(line, "end")) report();
    if (!strcmp(line, "drop")) drop_all();
    if (!strcmp(line, "frames")) fewest_and_most(&fewest, &most), printf("%lld %lld\n", (long long)fewest, (long long)most);
    fflush(stdout);
}

static void obey_input(void) {
    static char line[256];
    static size_t length;
    char data[256];
    ssize_t size = read(0, data, sizeof data);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) exit(0);
    for (ssize_t i = 0; i < size; i++) {
        if (data[i] != '\n' && length + 1 < sizeof line) { line[length++] = data[i]; continue; }
        line[length] = 0, length = 0;
        obey(line);
    }
}

int main(int argc, char **argv) {
    if (argc < 4) { fprintf(stderr, "load PORT CLIENTS TARGET [read|stall|trickle|ws|ws-stall|sio]\n"); return 2; }
    count = atoi(argv[2]);
    is_stalled = argc > 4 && strstr(argv[4], "stall");
    trickling = argc > 4 && !strcmp(argv[4], "trickle");
    is_sio = argc > 4 && !strcmp(argv[4], "sio");
    is_ws = is_sio || (argc > 4 && !strncmp(argv[4], "ws", 2));
    is_slow = is_stalled || trickling;
    clients = calloc((size_t)count, sizeof *clients);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    target = argv[3];
    epoll = epoll_create1(0);
    open_all();
    fcntl(0, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event)) die("stdin");
    for (;;) {
        step(trickling ? 10 : 1000);
        if (trickling)
            for (int i = 0; i < count; i++)
                if (!clients[i].ended) read_some(&clients[i], TRICKLE_BYTES);
        obey_input();
    }
}
