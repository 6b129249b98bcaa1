/*
 * test_safetensors.c: good headers, and every bad one with its code, its message and the byte
 * offset that the message names.
 */
#include "st_builder.h"

#include <math.h>
#include <time.h>

#include "safetensors.h"

static g2_buf file;

/* Parses an exact-size copy of a file, so that a sanitizer sees reads beyond the end. */
static g2_safetensors *
parse_bytes(const void *data, size_t len, g2_error *err)
{
	g2_safetensors *st = NULL;
	char	   *copy = malloc(len ? len : 1);
	bool		ok;

	assert_non_null(copy);
	if (len)
		memcpy(copy, data, len);
	memset(err, 0, sizeof *err);
	ok = g2_safetensors_parse("m.safetensors", copy, len, len, &st, err);
	assert_int_equal(ok, err->code == G2_OK);
	free(copy);
	return ok ? st : NULL;
}

static g2_safetensors *
parse(const char *header, size_t data, g2_error *err)
{
	g2_buf		zeros = {0};
	g2_safetensors *st;

	g2_buf_reserve(&zeros, data + 1);
	memset(zeros.data, 0, data);
	stb_bytes(&file, header, strlen(header), zeros.data, data);
	g2_buf_free(&zeros);
	st = parse_bytes(file.data, file.len, err);
	return st;
}

static void
refuse(const char *header, size_t data, const char *part)
{
	g2_error	err;
	g2_safetensors *st = parse(header, data, &err);

	if (st)
		print_error("accepted %s\n", header);
	assert_null(st);
	EXPECT_ERROR(err, G2_E_BAD_FILE, part);
	assert_non_null(strstr(err.message, "m.safetensors"));
	assert_non_null(strstr(err.message, "byte "));
}

static void
refuse_bytes(const void *data, size_t len, const char *part)
{
	g2_error	err;

	assert_null(parse_bytes(data, len, &err));
	EXPECT_ERROR(err, G2_E_BAD_FILE, part);
}

#define T(name, dtype, shape, begin, end) \
	"\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" #begin "," \
	#end "]}"

static void
test_good(void **state)
{
	g2_error	err;
	g2_safetensors *st;
	const g2_tensor *t;

	(void) state;
	st = parse("{}", 0, &err);
	EXPECT_OK(st != NULL, err);
	assert_int_equal(g2_safetensors_count(st), 0);
	assert_null(g2_safetensors_find(st, "a"));
	g2_safetensors_close(st);

	/* not in the order of their data, any white space, empty tensors, a scalar, escapes */
	st = parse("{ \"__metadata__\" : {\"format\":\"pt\", \"\\u00e4\\n\":\"\xC3\xA4\\ud83d\\ude00\"}"
			   ",\n" T("b", "BF16", "2,3", 8, 20) ",\t" T("a", "F32", "2", 0, 8) ","
			   T("zero", "F16", "0,5", 20, 20) "," T("s", "I64", "", 20, 28) ","
			   "\"\\u0063\\u20ac\":{\"data_offsets\":[28,28],\"shape\":[1,1,0],\"dtype\":\"U8\"}}"
			   "   \n", 28, &err);
	EXPECT_OK(st != NULL, err);
	assert_int_equal(g2_safetensors_count(st), 5);
	t = g2_safetensors_find(st, "b");
	assert_non_null(t);
	assert_int_equal(t->dtype, G2_DTYPE_BF16);
	assert_int_equal(t->rank, 2);
	assert_int_equal(t->shape[0], 2);
	assert_int_equal(t->shape[1], 3);
	assert_int_equal(t->begin, g2_safetensors_data_begin(st) + 8);
	assert_int_equal(t->end, g2_safetensors_data_begin(st) + 20);
	assert_string_equal(g2_safetensors_at(st, 0)->name, "a");
	assert_ptr_equal(g2_safetensors_at(st, 1), t);
	assert_int_equal(g2_safetensors_find(st, "s")->dtype, G2_DTYPE_OTHER);
	assert_string_equal(g2_safetensors_find(st, "s")->dtype_name, "I64");
	assert_int_equal(g2_safetensors_find(st, "s")->rank, 0);
	assert_non_null(g2_safetensors_find(st, "c\xE2\x82\xAC"));
	assert_null(g2_safetensors_find(st, "bb"));
	g2_safetensors_close(st);
}

static void
test_start(void **state)
{
	static const char lfs[] = "version https://git-lfs.github.com/spec/v1\n";
	unsigned char bytes[16] = {0};
	g2_error	err;

	(void) state;
	refuse_bytes("", 0, "byte 0: the file is empty");
	refuse_bytes("\2\0\0\0\0\0\0", 7, "byte 0: the file has fewer than 8 bytes");
	refuse_bytes(bytes, 8, "byte 0: header length is 0");
	refuse_bytes(bytes, 16, "byte 0: header length is 0");
	memset(bytes, 0xFF, 8);
	refuse_bytes(bytes, 16, "header length 18446744073709551615 is above the limit");
	memcpy(bytes, "\1\0\x40\6\0\0\0\0", 8);	/* 100 MB + 1 */
	refuse_bytes(bytes, 16, "header length 104857601 is above the limit of 104857600");
	memcpy(bytes, "\xF9\xFF\xFF\xFF\xFF\xFF\xFF\x7F", 8);
	refuse_bytes(bytes, 16, "above the limit");
	memcpy(bytes, "\x09\0\0\0\0\0\0\0{}", 10);
	refuse_bytes(bytes, 16, "header length 9 is behind the end of the file (16 bytes)");
	assert_null(parse_bytes(lfs, sizeof lfs - 1, &err));
	EXPECT_ERROR(err, G2_E_BAD_FILE, "Git LFS pointer");
	assert_non_null(strstr(err.hint, "git lfs pull"));
	/* the header is not all there though the file's size says so */
	memcpy(bytes, "\x20\0\0\0\0\0\0\0{}", 10);
	assert_false(g2_safetensors_parse("m", bytes, 16, 1000, &(g2_safetensors *) {0}, &err));
	EXPECT_ERROR(err, G2_E_BAD_FILE, "cut off");
}

static void
test_syntax(void **state)
{
	(void) state;
	refuse(" {}", 0, "byte 8: the header does not start with \"{\"");
	refuse("[]", 0, "byte 8: the header does not start with \"{\"");
	refuse("\xEF\xBB\xBF{}", 0, "byte 8: the header does not start");
	refuse("{", 0, "string expected");
	refuse("{}}", 0, "byte 10: bytes behind the header's object");
	refuse("{,}", 0, "byte 9: string expected");
	refuse("{\"a\"}", 0, "byte 12: \":\" expected");
	refuse("{\"a\":1}", 0, "byte 13: tensor \"a\": \"{\" expected");
	refuse("{\"a\":{}}", 0, "dtype, shape and data_offsets are missing");
	refuse("{\"a\":{\"dtype\":\"F32\"}}", 0, "tensor \"a\": shape is missing");
	refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0, "data_offsets is missing");
	refuse("{\"a\":{\"shape\":[],\"data_offsets\":[0,0]}}", 0, "dtype is missing");
	refuse("{\"a\":{\"dtype\":\"F32\",\"extra\":1}}", 0, "byte 28: tensor \"a\": unknown key "
		   "\"extra\"");
	refuse("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0, "key \"dtype\" occurs twice");
	refuse("{\"a\":{\"dtype\":5}}", 0, "byte 22: tensor \"a\": string expected");
	refuse("{" T("a", "F32", "1", 0, 4) ",}", 4, "string expected");
	refuse("{" T("a", "F32", "1,", 0, 4) "}", 4, "shape must hold whole numbers");
	refuse("{\"a", 0, "ends inside a string");
	refuse("{\"a\\", 0, "invalid escape");
	refuse("{\"a\\x\":1}", 0, "invalid escape");
	refuse("{\"a\\u12g4\":1}", 0, "invalid \\u escape");
	refuse("{\"\\ud800\":1}", 0, "lone surrogate");
	refuse("{\"\\ud800\\u0041\":1}", 0, "lone surrogate");
	refuse("{\"\\udc00\":1}", 0, "lone surrogate");
	refuse("{\"a\nb\":1}", 0, "control character in a string");
	refuse("{\"a\\u0000b\":1}", 0, "control character in a name");
	refuse("{\"a\\u001fb\":1}", 0, "control character in a name");
	refuse("{\"a\xFF\":1}", 0, "byte 11: invalid UTF-8");
	refuse("{\"\xC3\":1}", 0, "byte 10: invalid UTF-8");
	refuse("{\"\xED\xA0\x80\":1}", 0, "invalid UTF-8");
	refuse("{\"__metadata__\":{\"k\":\"\xC0\x80\"}}", 0, "invalid UTF-8");
	refuse("{\"__metadata__\":{\"k\":1}}", 0, "string expected");
	refuse("{\"__metadata__\":{\"k\":{\"l\":\"m\"}}}", 0, "string expected");
	refuse("{\"__metadata__\":[]}", 0, "\"{\" expected");
	refuse("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "\"__metadata__\" occurs twice");
}

static void
test_duplicates(void **state)
{
	(void) state;
	refuse("{" T("a", "F32", "1", 0, 4) "," T("b", "F32", "1", 4, 8) "," T("a", "F32", "1", 8, 12)
		   "}", 12, "byte 115: tensor \"a\" occurs twice");
	refuse("{" T("a", "F32", "1", 0, 4) "," T("\\u0061", "F32", "1", 4, 8) "}", 8,
		   "tensor \"a\" occurs twice");
	refuse("{" T("a", "F32", "0", 0, 0) "," T("a", "F32", "0", 0, 0) "}", 0,
		   "tensor \"a\" occurs twice");
}

static void
test_offsets(void **state)
{
	(void) state;
	refuse("{" T("a", "F32", "1", 8, 4) "}", 8, "byte 9: tensor \"a\": data_offsets begin (8) is "
		   "behind end (4)");
	refuse("{" T("a", "F32", "2", 0, 8) "}", 7, "data_offsets end (8) is behind the end of the "
		   "data (7)");
	refuse("{" T("a", "F32", "1", 18446744073709551612, 18446744073709551615) "}", 4,
		   "behind the end");
	refuse("{" T("a", "F32", "1", 0, 18446744073709551616) "}", 4, "too large");
	refuse("{" T("a", "F32", "1", 0, 4) "," T("b", "F32", "1", 0, 4) "}", 4, "overlap");
	refuse("{" T("a", "F32", "2", 0, 8) "," T("b", "F32", "2", 4, 12) "}", 12,
		   "tensor \"b\": its data overlap another tensor's (begin 4, expected 8)");
	refuse("{" T("a", "F32", "1", 0, 4) "," T("b", "F32", "1", 8, 12) "}", 12,
		   "tensor \"b\": its data start behind a hole (begin 8, expected 4)");
	refuse("{" T("a", "F32", "1", 4, 8) "}", 8, "behind a hole");
	refuse("{" T("a", "F32", "1", 0, 4) "}", 9, "5 bytes belong to no tensor");
	refuse("{}", 1, "1 bytes belong to no tensor");
	refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4,
		   "data_offsets must hold two numbers");
	refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}", 4,
		   "data_offsets has more than 2 numbers");
}

static void
test_shapes(void **state)
{
	(void) state;
	refuse("{" T("a", "F32", "2", 0, 4) "}", 4, "shape and dtype F32 make 8 bytes, data_offsets 4");
	refuse("{" T("a", "F16", "2", 0, 8) "}", 8, "shape and dtype F16 make 4 bytes, data_offsets 8");
	refuse("{" T("a", "F32", "4294967296,4294967296", 0, 0) "}", 0, "too large");
	refuse("{" T("a", "F32", "1073741824,1073741824,4", 0, 0) "}", 0, "too large");
	refuse("{" T("a", "F64", "288230376151711744", 0, 0) "}", 0, "too large");
	refuse("{" T("a", "F32", "18446744073709551616", 0, 0) "}", 0, "number in shape is too large");
	refuse("{" T("a", "F32", "-1", 0, 4) "}", 4, "shape must not be negative");
	refuse("{" T("a", "F32", "1.0", 0, 4) "}", 4, "shape must hold whole numbers");
	refuse("{" T("a", "F32", "1e0", 0, 4) "}", 4, "shape must hold whole numbers");
	refuse("{" T("a", "F32", "01", 0, 4) "}", 4, "starts with 0");
	refuse("{" T("a", "F32", "null", 0, 4) "}", 4, "shape must hold whole numbers");
	refuse("{" T("a", "F32", "[1]", 0, 4) "}", 4, "shape must hold whole numbers");
	refuse("{" T("a", "F32", "1,1,1,1,1,1,1,1,1", 0, 4) "}", 4, "shape has more than 8 numbers");
	refuse("{" T("a", "F31", "1", 0, 4) "}", 4, "byte 22: tensor \"a\": unknown dtype \"F31\"");
	refuse("{" T("a", "f32", "1", 0, 4) "}", 4, "unknown dtype \"f32\"");
	refuse("{" T("a", "F32AAAAAAAAAAAAAAAAAAAAAAAA", "1", 0, 4) "}", 4, "more than 15 bytes");
	refuse("{" T("a", "F4", "3", 0, 1) "}", 1, "too large");
}

static void
test_nesting(void **state)
{
	g2_buf		text = {0};

	(void) state;
	for (int kind = 0; kind < 3; kind++)
	{
		text.len = 0;
		g2_buf_printf(&text, "%s", kind == 0 ? "{\"a\":" : kind == 1
					  ? "{\"__metadata__\":{\"k\":" : "{\"a\":{\"dtype\":\"F32\",\"shape\":");
		for (int i = 0; i < 100000; i++)
			g2_buf_append(&text, kind == 1 ? "{\"a\":" : "[", kind == 1 ? 5 : 1);
		g2_buf_append(&text, "", 1);
		refuse(text.data, 0, kind == 2 ? "whole numbers" : "expected");
	}
	g2_buf_free(&text);
}

/* ---- files: limits of time and memory */

/* A sanitizer's own memory would be counted too. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* A line of /proc/self/status in kB: VmRSS is now, VmHWM the highest since restart_peak. */
static long
status_kb(const char *key)
{
	char		line[256];
	long		kb = 0;
	FILE	   *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, key, strlen(key)) == 0)
			kb = strtol(line + strlen(key) + 1, NULL, 10);
	if (f)
		fclose(f);
	return kb;
}

/* Lets VmHWM count from here; returns it.  Where /proc may not be written it stays the highest of
 * all, so that only a new highest is seen to grow. */
static long
restart_peak(void)
{
	FILE	   *f = fopen("/proc/self/clear_refs", "w");

	if (f)
	{
		fputs("5", f);
		fclose(f);
	}
	return status_kb("VmHWM");
}

static double
cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

/* Opens folder/name, which must fail or not within 2 s (of this process) and 64 MB. */
static void
open_limited(const char *folder, const char *name, const char *part)
{
	g2_error	err = {0};
	g2_safetensors *st = NULL;
	double		start = cpu_seconds();
	long		before;
	bool		ok;

	before = restart_peak();
	ok = g2_safetensors_open(folder, name, &st, &err);
	assert_true(cpu_seconds() - start < 2);
	if (!SANITIZED)
		assert_true(status_kb("VmHWM") - before < 64 * 1024);
	if (ok)
		g2_safetensors_close(st);
	else
		EXPECT_ERROR(err, G2_E_BAD_FILE, part);
	assert_int_equal(ok, part[0] == '\0');
}

static void
test_many(void **state)
{
	char	   *folder = tb_folder();
	g2_buf		text = {0};

	(void) state;
	for (int n = 65536; n <= 1000000; n = n == 65536 ? 1000000 : 2000000)
	{
		text.len = 0;
		g2_buf_append(&text, "\0\0\0\0\0\0\0\0{", 9);
		for (int i = 0; i < n; i++)
			g2_buf_printf(&text, "%s\"a tensor with a long name %d\":{\"dtype\":\"F32\","
						  "\"shape\":[0],\"data_offsets\":[0,0]}", i ? "," : "", i);
		g2_buf_append(&text, "}", 1);
		*(uint64_t *) text.data = text.len - 8;
		tb_write(folder, "m", text.data, text.len);
		g2_buf_free(&text);
		open_limited(folder, "m", n == 65536 ? "" : "more than 65536 tensors");
	}
	tb_remove(folder);
}

static void
test_huge(void **state)
{
	char	   *folder = tb_folder();
	size_t		len = 8 + (100u << 20);
	char	   *data = malloc(len);

	(void) state;
	assert_non_null(data);
	memset(data, 'x', len);
	*(uint64_t *) data = 100u << 20;
	memcpy(data + 8, "{\"__metadata__\":{\"a\":\"", 22);
	memcpy(data + len - 3, "\"}}", 3);
	tb_write(folder, "m", data, len);
	memset(data + 8, ' ', len - 8);
	data[8] = '{';
	data[len - 1] = '}';
	tb_write(folder, "n", data, len);
	memset(data + 8, '[', len - 8);
	tb_write(folder, "o", data, len);
	free(data);
	open_limited(folder, "m", "");
	open_limited(folder, "n", "");
	open_limited(folder, "o", "does not start");
	tb_remove(folder);
}

static void
test_kinds_of_file(void **state)
{
	char	   *folder = tb_folder();
	g2_error	err = {0};
	g2_safetensors *st;

	(void) state;
	assert_int_equal(mkdir(tb_path(folder, "model.safetensors"), 0700), 0);
	assert_false(g2_safetensors_open(folder, "model.safetensors", &st, &err));
	EXPECT_ERROR(err, G2_E_PERMISSION, "not a regular file");
	assert_int_equal(mkfifo(tb_path(folder, "fifo"), 0600), 0);
	assert_false(g2_safetensors_open(folder, "fifo", &st, &err));
	EXPECT_ERROR(err, G2_E_PERMISSION, "not a regular file");
	assert_false(g2_safetensors_open("/dev", "zero", &st, &err));
	EXPECT_ERROR(err, G2_E_PERMISSION, "not a regular file");
	assert_false(g2_safetensors_open(folder, "none", &st, &err));
	EXPECT_ERROR(err, G2_E_NO_FILE, "none");
	tb_write(folder, "empty", "", 0);
	assert_false(g2_safetensors_open(folder, "empty", &st, &err));
	EXPECT_ERROR(err, G2_E_BAD_FILE, "empty");
	tb_remove(folder);
}

/* ---- data */

/* binary16 -> double by the definition of the format. */
static double
half_value(uint16_t h)
{
	int			e = h >> 10 & 31,
				m = h & 1023;
	double		v = e == 0 ? ldexp(m, -24) : ldexp(1024 + m, e - 25);

	return h & 0x8000 ? -v : v;
}

static void
test_f16(void **state)
{
	char	   *folder = tb_folder();
	st_builder	b = {0};
	uint16_t	all[65536 - 2048];
	float		out[65536 - 2048];
	size_t		n = 0;
	g2_safetensors *st;
	g2_error	err;

	(void) state;
	for (uint32_t h = 0; h < 65536; h++)
		if ((h >> 10 & 31) != 31)
			all[n++] = (uint16_t) h;
	assert_true(n <= G2_LENGTH(all));
	stb_add(&b, "t", "F16", "63488", all, n * 2);
	stb_save(&b, folder, "m");
	EXPECT_OK(g2_safetensors_open(folder, "m", &st, &err), err);
	EXPECT_OK(g2_safetensors_read(st, g2_safetensors_find(st, "t"), 0, n, out, &err), err);
	for (size_t i = 0; i < n; i++)
	{
		assert_true((double) out[i] == half_value(all[i]));
		assert_int_equal(signbit(out[i]) != 0, all[i] >> 15);
	}
	/* a part, from the middle */
	EXPECT_OK(g2_safetensors_read(st, g2_safetensors_find(st, "t"), 5000, 2, out, &err), err);
	assert_true((double) out[0] == half_value(all[5000]));
	assert_false(g2_safetensors_read(st, g2_safetensors_find(st, "t"), n - 1, 2, out, &err));
	g2_safetensors_close(st);
	tb_remove(folder);
}

static void
test_not_finite(void **state)
{
	char	   *folder = tb_folder();
	st_builder	b = {0};
	float		f32[5] = {1, 2, 3, NAN, 5},
				out[5];
	uint16_t	f16[3] = {0x3C00, 0x7C00, 0xFC00},
				bf16[3] = {0x3F80, 0x4000, 0xFF80};
	int64_t		i64[1] = {7};
	g2_safetensors *st;
	g2_error	err;

	(void) state;
	stb_add(&b, "f32", "F32", "5", f32, sizeof f32);
	stb_add(&b, "f16", "F16", "3", f16, sizeof f16);
	stb_add(&b, "bf16", "BF16", "3", bf16, sizeof bf16);
	stb_add(&b, "i64", "I64", "1", i64, sizeof i64);
	stb_save(&b, folder, "m");
	EXPECT_OK(g2_safetensors_open(folder, "m", &st, &err), err);
	assert_false(g2_safetensors_read(st, g2_safetensors_find(st, "f32"), 0, 5, out, &err));
	EXPECT_ERROR(err, G2_E_BAD_FILE, "tensor \"f32\": element 3 is NaN");
	assert_true(g2_safetensors_read(st, g2_safetensors_find(st, "f32"), 0, 3, out, &err));
	assert_false(g2_safetensors_read(st, g2_safetensors_find(st, "f16"), 1, 1, out, &err));
	EXPECT_ERROR(err, G2_E_BAD_FILE, "tensor \"f16\": element 1 is infinite");
	assert_false(g2_safetensors_read(st, g2_safetensors_find(st, "bf16"), 0, 3, out, &err));
	EXPECT_ERROR(err, G2_E_BAD_FILE, "tensor \"bf16\": element 2 is infinite");
	assert_true(g2_safetensors_read(st, g2_safetensors_find(st, "bf16"), 0, 2, out, &err));
	assert_true(out[0] == 1.0f && out[1] == 2.0f);
	assert_false(g2_safetensors_read(st, g2_safetensors_find(st, "i64"), 0, 1, out, &err));
	EXPECT_ERROR(err, G2_E_UNSUPPORTED, "dtype I64");
	g2_safetensors_close(st);
	tb_remove(folder);
}

static void
test_memory(void **state)
{
	char	   *folder = tb_folder();
	st_builder	b = {0};

	(void) state;
	for (int i = 0; i < 200; i++)
	{
		char		name[16];

		snprintf(name, sizeof name, "t%d", i);
		stb_add(&b, name, "F32", "1", "\0\0\0\0", 4);
	}
	stb_save(&b, folder, "m");
	for (long n = 1;; n++)
	{
		g2_safetensors *st = NULL;
		g2_error	err = {0};
		bool		ok;

		g2_alloc_fail_at(n);
		ok = g2_safetensors_open(folder, "m", &st, &err);
		g2_alloc_fail_at(0);
		if (ok)
		{
			g2_safetensors_close(st);
			break;
		}
		assert_int_equal(err.code, G2_E_MEMORY);
		assert_true(n < 100);
	}
	tb_remove(folder);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_syntax),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_offsets),
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_huge),
		cmocka_unit_test(test_kinds_of_file),
		cmocka_unit_test(test_f16),
		cmocka_unit_test(test_not_finite),
		cmocka_unit_test(test_memory),
	};
	int			failed = cmocka_run_group_tests(tests, NULL, NULL);

	g2_buf_free(&file);
	return failed;
}
