// SPDX-License-Identifier: Apache-2.0
// grpc_stream_load.c - load on one ModelStreamInfer stream: a fixed number of requests in flight, for a time.
//
// Usage: grpc_stream_load PORT SECONDS IN_FLIGHT MESSAGE_FILE, where the file holds one request with its gRPC prefix.
// Prints one JSON object: requests, seconds, p50_us, p99_us, failures, bytes. Loopback only. It exists because no load
// tool of the distributions keeps a stream busy for less than what the server costs.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_IN_FLIGHT 4096
#define MAX_SAMPLES (1u << 22)

static struct {
  uint8_t* message;
  size_t message_size;
  size_t to_send;      // messages that may still be started
  size_t sent_of_one;  // bytes of the current message
  uint64_t started[MAX_IN_FLIGHT];
  size_t first, count;  // of the ring of start times
  uint8_t prefix[5];
  size_t prefix_size;
  uint64_t left;  // bytes of the current answer
  uint8_t tag;    // its first byte
  int has_tag;
  uint32_t* samples;
  size_t requests, failures;
  uint64_t bytes;
  int32_t stream;
  int ended;
} load;

static void die(const char* what) {
  fprintf(stderr, "grpc_stream_load: %s\n", what);
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static ssize_t on_read(nghttp2_session* session, int32_t stream, uint8_t* out, size_t room, uint32_t* flags,
                       nghttp2_data_source* source, void* user) {
  (void)session, (void)stream, (void)flags, (void)source, (void)user;
  size_t size = 0;
  while (size < room && (load.to_send != 0 || load.sent_of_one != 0)) {
    if (load.sent_of_one == 0) {
      --load.to_send;
      load.started[(load.first + load.count++) % MAX_IN_FLIGHT] = now_ns();
    }
    size_t part = load.message_size - load.sent_of_one;
    if (part > room - size) part = room - size;
    memcpy(out + size, load.message + load.sent_of_one, part);
    size += part;
    load.sent_of_one = (load.sent_of_one + part) % load.message_size;
  }
  return size == 0 ? NGHTTP2_ERR_DEFERRED : (ssize_t)size;
}

static void on_answer(void) {
  if (load.count == 0) die("an answer without a request");
  uint64_t us = (now_ns() - load.started[load.first]) / 1000;
  load.first = (load.first + 1) % MAX_IN_FLIGHT;
  --load.count;
  if (load.requests < MAX_SAMPLES) load.samples[load.requests] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
  ++load.requests;
  if (load.has_tag && load.tag == 0x0a) ++load.failures;  // field 1 of ModelStreamInferResponse: error_message
  ++load.to_send;
}

static int on_data(nghttp2_session* session, uint8_t flags, int32_t stream, const uint8_t* data, size_t size,
                   void* user) {
  (void)flags, (void)user;
  load.bytes += size;
  while (size != 0) {
    if (load.prefix_size < 5) {
      load.prefix[load.prefix_size++] = *data++;
      --size;
      if (load.prefix_size < 5) continue;
      load.left = (uint64_t)load.prefix[1] << 24 | (uint64_t)load.prefix[2] << 16 | (uint64_t)load.prefix[3] << 8 |
                  load.prefix[4];
      load.has_tag = 0;
    }
    if (load.left != 0 && size != 0) {
      if (!load.has_tag) load.tag = *data, load.has_tag = 1;
      size_t part = size < load.left ? size : (size_t)load.left;
      data += part;
      size -= part;
      load.left -= part;
    }
    if (load.left == 0) {
      load.prefix_size = 0;
      on_answer();
    }
  }
  nghttp2_session_resume_data(session, stream);
  return 0;
}

static int on_close(nghttp2_session* session, int32_t stream, uint32_t code, void* user) {
  (void)session, (void)stream, (void)code, (void)user;
  load.ended = 1;
  return 0;
}

static void write_all(int fd, const uint8_t* data, size_t size) {
  while (size != 0) {
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) die("the server closed the connection");
    data += sent;
    size -= (size_t)sent;
  }
}

static void flush(int fd, nghttp2_session* session) {
  static uint8_t buffer[1 << 18];
  size_t used = 0;
  for (;;) {
    const uint8_t* part;
    ssize_t size = nghttp2_session_mem_send(session, &part);
    if (size < 0) die("nghttp2_session_mem_send failed");
    if (size == 0 || used + (size_t)size > sizeof buffer) {
      write_all(fd, buffer, used);
      used = 0;
      if (size == 0) return;
    }
    if ((size_t)size > sizeof buffer) {
      write_all(fd, part, (size_t)size);
    } else {
      memcpy(buffer + used, part, (size_t)size);
      used += (size_t)size;
    }
  }
}

static int connect_to(int port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || connect(fd, (struct sockaddr*)&place, sizeof place) != 0) die("can not connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  return fd;
}

static nghttp2_session* start(int port) {
  nghttp2_session_callbacks* callbacks;
  nghttp2_session* session;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
  nghttp2_session_client_new(&session, callbacks, NULL);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_settings_entry window = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 16u << 20};
  nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, &window, 1);
  nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, 64 << 20);
  char authority[32];
  snprintf(authority, sizeof authority, "localhost:%d", port);
#define HEADER(name, value) {(uint8_t*)name, (uint8_t*)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE}
  nghttp2_nv headers[] = {
      HEADER(":method", "POST"),           HEADER(":scheme", "http"),
      HEADER(":path", "/inference.GRPCInferenceService/ModelStreamInfer"),
      HEADER(":authority", authority),     HEADER("content-type", "application/grpc"),
      HEADER("te", "trailers"),
  };
  nghttp2_data_provider provider = {.read_callback = on_read};
  load.stream = nghttp2_submit_request(session, NULL, headers, sizeof headers / sizeof *headers, &provider, NULL);
  return session;
}

static void read_message(const char* path) {
  FILE* file = fopen(path, "rb");
  if (file == NULL) die("can not read the message");
  fseek(file, 0, SEEK_END);
  load.message_size = (size_t)ftell(file);
  rewind(file);
  load.message = malloc(load.message_size);
  if (fread(load.message, 1, load.message_size, file) != load.message_size) die("can not read the message");
  fclose(file);
}

static int by_size(const void* a, const void* b) {
  uint32_t left = *(const uint32_t*)a, right = *(const uint32_t*)b;
  return left < right ? -1 : left > right;
}

int main(int argc, char** argv) {
  if (argc != 5) die("usage: grpc_stream_load PORT SECONDS IN_FLIGHT MESSAGE_FILE");
  int port = atoi(argv[1]), in_flight = atoi(argv[3]);
  double seconds = atof(argv[2]);
  if (in_flight < 1 || in_flight > MAX_IN_FLIGHT || seconds <= 0 || seconds > 60) die("bad arguments");
  read_message(argv[4]);
  load.samples = malloc(MAX_SAMPLES * sizeof *load.samples);
  load.to_send = (size_t)in_flight;
  int fd = connect_to(port);
  nghttp2_session* session = start(port);
  uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9);
  static uint8_t buffer[1 << 18];
  while (now_ns() < end) {
    flush(fd, session);
    ssize_t size = recv(fd, buffer, sizeof buffer, 0);
    if (size <= 0) die("the server closed the connection");
    if (nghttp2_session_mem_recv(session, buffer, (size_t)size) < 0) die("the server sent no HTTP/2");
    if (load.ended) die("the server ended the stream");
  }
  double took = (double)(now_ns() - begin) * 1e-9;
  size_t kept = load.requests < MAX_SAMPLES ? load.requests : MAX_SAMPLES;
  qsort(load.samples, kept, sizeof *load.samples, by_size);
  if (kept == 0) die("no answers");
  printf("{\"requests\": %zu, \"seconds\": %.6f, \"p50_us\": %u, \"p99_us\": %u, \"failures\": %zu, \"bytes\": %llu}\n",
         load.requests, took, load.samples[kept / 2], load.samples[kept * 99 / 100], load.failures,
         (unsigned long long)load.bytes);
  close(fd);
  nghttp2_session_del(session);
  return 0;
}
