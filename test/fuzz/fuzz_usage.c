/*
 * fuzz_usage.c: any bytes as the file of usage counters: once as they are, once as the payload
 * behind a right header, as no fuzzer finds a checksum.  What is taken must come back from a file
 * made of it, the same to the last byte.
 */
#include <stdlib.h>

#include "usage.h"

#define CLUSTER 1
#define TIMELINE 1

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t
calendar(void)
{
	return 2025 * 12 + 4;
}

static void *
grow(void *data, size_t bytes)
{
	return g2_realloc(data, bytes);
}

static g2_usage *
open_empty(void)
{
	g2_usage   *usage;
	g2_error	ignored,
				err;

	if (!g2_usage_open(NULL, CLUSTER, TIMELINE, calendar, &usage, &ignored, &err))
		abort();
	return usage;
}

/* The payload that lists what usage holds. */
static g2_writer
list_of(const g2_usage *usage)
{
	g2_writer	w = {.grow = grow};

	g2_usage_encode(usage, &w);
	if (w.failed)
		abort();
	return w;
}

static void
check_again(const g2_usage *usage)
{
	g2_usage   *again = open_empty();
	g2_writer	first = list_of(usage),
				second;
	g2_error	err;

	if (!g2_usage_take(again, (g2_span) {first.data, (uint32_t) first.len}, &err))
		abort();
	second = list_of(again);
	if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
		abort();
	g2_free(first.data);
	g2_free(second.data);
	g2_usage_close(again);
}

static void
fuzz_payload(g2_span payload)
{
	g2_usage   *usage = open_empty();
	g2_error	err = {0};

	if (g2_usage_take(usage, payload, &err))
	{
		g2_usage_delta one = {.calls = 1};

		check_again(usage);
		g2_usage_add(usage, 10, 5, "demo", &one);
		check_again(usage);
	}
	else if (err.code != G2_E_BAD_FILE)
		abort();
	g2_usage_close(usage);
}

/* A file of this payload: as it is taken, and as it is refused for others. */
static void
fuzz_with_header(const uint8_t *data, size_t size)
{
	g2_usage_header header = g2_usage_file_header(CLUSTER, TIMELINE, data, size);
	g2_writer	file = {.grow = grow};
	g2_span		payload;

	g2_put(&file, &header, sizeof header);
	g2_put(&file, data, size);
	if (file.failed || !g2_usage_file_check(file.data, file.len, CLUSTER, TIMELINE, &payload) ||
		g2_usage_file_check(file.data, file.len, CLUSTER, TIMELINE + 1, &payload) ||
		g2_usage_file_check(file.data, file.len, CLUSTER + 1, TIMELINE, &payload))
		abort();
	fuzz_payload((g2_span) {file.data + sizeof header, (uint32_t) size});
	g2_free(file.data);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g2_span		payload;

	if (size > 1 << 20)
		return 0;
	if (g2_usage_file_check(data, size, CLUSTER, TIMELINE, &payload))
		fuzz_payload(payload);
	fuzz_with_header(data, size);
	return 0;
}
