/*
 * test_import.c: PyTorch checkpoints as safetensors: one that torch.save wrote
 * (test/vectors/make_checkpoint.py), pickles that want more, damaged archives, faults.
 */
#include "st_builder.h"

#include "import.h"
#include "pickle.h"
#include "safetensors.h"
#include "tokenizer_golden.h"
#include "zip.h"

#define CHECKPOINT "test/vectors/data/checkpoint"

static g2_buf checkpoint;
static char *folder;

static int
setup(void **state)
{
	(void) state;
	folder = tb_folder();
	checkpoint.len = 0;
	return golden_read_from(CHECKPOINT, "pytorch_model.bin", &checkpoint) ? 0 : -1;
}

static int
teardown(void **state)
{
	(void) state;
	tb_remove(folder);
	g2_buf_free(&checkpoint);
	return 0;
}

static void
is_tensor(const g2_safetensors *st, const char *name, uint64_t n, float first, float last)
{
	const g2_tensor *t = g2_safetensors_find(st, name);
	float		x[16];
	g2_error	err;

	assert_non_null(t);
	if (!g2_safetensors_read(st, t, 0, n, x, &err))
		fail_msg("%s", err.message);
	assert_true(x[0] == first && x[n - 1] == last);
}

static void
test_checkpoint(void **state)
{
	g2_import_result result;
	g2_safetensors *st;
	g2_error	err;

	(void) state;
	tb_write(folder, "pytorch_model.bin", checkpoint.data, checkpoint.len);
	if (!g2_import(folder, &result, &err))
		fail_msg("%s", err.message);
	assert_int_equal(result.n_tensors, 6);
	assert_int_equal(result.bytes, 48 + 4 + 10 + 12 + 16 + 4);
	assert_true(g2_safetensors_open(folder, "model.safetensors", &st, &err));
	assert_int_equal(g2_safetensors_count(st), 6);
	is_tensor(st, "transformer.wte.weight", 12, 0, 11);
	is_tensor(st, "transformer.h.0.half", 5, 1, 1);
	is_tensor(st, "transformer.h.0.brain", 6, 1.5f, 1.5f);
	is_tensor(st, "part", 4, 2, 5);
	is_tensor(st, "scalar", 1, -10000, -10000);
	assert_int_equal(g2_safetensors_find(st, "transformer.h.0.attn.bias")->rank, 4);
	assert_string_equal(g2_safetensors_find(st, "transformer.h.0.attn.bias")->dtype_name, "BOOL");
	assert_null(g2_safetensors_find(st, "lm_head.weight"));	/* tied */
	g2_safetensors_close(st);

	/* never over a file */
	assert_false(g2_import(folder, &result, &err));
	assert_string_equal(g2_sqlstate(err.code), "22023");
	unlink(tb_path(folder, "model.safetensors"));
	unlink(tb_path(folder, "pytorch_model.bin"));
	assert_int_equal(rmdir(folder), 0);	/* nothing else was left */
	assert_int_equal(mkdir(folder, 0700), 0);
}

static void
test_files(void **state)
{
	g2_import_result result;
	g2_error	err;

	(void) state;
	assert_false(g2_import(folder, &result, &err));
	assert_string_equal(g2_sqlstate(err.code), "58P01");
	tb_text(folder, "pytorch_model.bin.index.json", "{}");
	assert_false(g2_import(folder, &result, &err));
	assert_string_equal(g2_sqlstate(err.code), "0A000");
	assert_int_equal(symlink("/dev/zero", tb_path(folder, "pytorch_model.bin")), 0);
	assert_false(g2_import(folder, &result, &err));
	assert_string_equal(g2_sqlstate(err.code), "42501");
	unlink(tb_path(folder, "pytorch_model.bin"));
	/* what PyTorch wrote before version 1.6, and nothing */
	tb_write(folder, "pytorch_model.bin", "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20j\xa8P\x19.", 15);
	assert_false(g2_import(folder, &result, &err));
	assert_string_equal(g2_sqlstate(err.code), "0A000");
	assert_non_null(strstr(err.message, "is no zip archive"));
	tb_text(folder, "pytorch_model.bin", "");
	assert_false(g2_import(folder, &result, &err));
	assert_string_equal(g2_sqlstate(err.code), "0A000");
	tb_text(folder, "pytorch_model.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
	assert_false(g2_import(folder, &result, &err));
	assert_non_null(strstr(err.message, "LFS"));
	assert_int_equal(access(tb_path(folder, "model.safetensors"), F_OK), -1);
}

/* ---------------------------------------------------------------- pickles */

#define STORAGE(key, n) \
	"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" key "X\3\0\0\0cpuK" n "tQ"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"

static void
test_pickles(void **state)
{
#define CASE(text, state, part) {text, sizeof text - 1, state, part}
	static const struct
	{
		const char *data;
		size_t		len;
		const char *state;
		const char *part;
	}			cases[] = {
		CASE("", "22P03", "byte 0: unexpected end"),
		CASE(".", "22P03", "the stack is empty"),
		CASE("N.", "0A000", "no dictionary of tensors"),
		CASE("}.", "0A000", "no dictionary of tensors"),
		CASE("\x80\2cos\nsystem\nX\2\0\0\0ls\x85R.", "0A000", "the name \"os.system\" at byte 2"),
		CASE("cbuiltins\neval\n)R.", "0A000", "the name \"builtins.eval\""),
		CASE("X\5\0\0\0posixX\6\0\0\0system\x93.", "0A000", "the name \"posix.system\""),
		CASE("ctorch\n\xFF\n.", "0A000", "the name \"torch.?\""),
		CASE("ctorch\nload\n.", "0A000", "the name \"torch.load\""),
		CASE("ctorch\nFloat", "22P03", "unexpected end"),
		CASE("ctorch\nFloatStorage\n)R.", "22P03", "a call of a storage"),
		CASE("N)R.", "22P03", "no function"),
		CASE("ccollections\nOrderedDict\n]\x85R.", "0A000", "made of a list"),
		CASE("i__main__\nX\n.", "0A000", "instruction 0x69"),
		CASE("o.", "0A000", "instruction 0x6F"),
		CASE("\x81.", "0A000", "instruction 0x81"),
		CASE("P0\n.", "0A000", "instruction 0x50"),
		CASE("(lp0\n.", "0A000", "instruction 0x6C"),
		CASE("X\xFF\xFF\xFF\xFFx.", "22P03", "unexpected end"),
		CASE("\x8d\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFFx.", "22P03", "unexpected end"),
		CASE("\x8a\x09" "aaaaaaaaa.", "0A000", "more than 64 bits"),
		CASE("h\0.", "22P03", "was not remembered"),
		CASE("Nr\5\0\0\0.", "22P03", "out of order"),
		CASE("q\0.", "22P03", "out of order"),
		CASE("t.", "22P03", "there is no mark"),
		CASE("(\x85.", "22P03", "the stack is empty"),
		CASE("}(Nu.", "22P03", "items of what is no dictionary"),
		CASE("N(NNu.", "22P03", "items of what is no dictionary"),
		CASE("(X\7\0\0\0storageNNNNtQ.", "22P03", "a storage is described otherwise"),
		CASE("NQ.", "22P03", "a storage is described otherwise"),
		CASE(REBUILD "(" STORAGE("0", "\x0c") "K\0K\3K\4\x86K\4K\1\x86tR.", "0A000",
			 "no dictionary of tensors"),
		CASE(REBUILD "(" STORAGE("0", "\x0b") "K\0K\3K\4\x86K\4K\1\x86tR.", "22P03",
			 "beyond its storage"),
		CASE(REBUILD "(" STORAGE("0", "\x0c") "K\1K\3K\4\x86K\4K\1\x86tR.", "22P03",
			 "beyond its storage"),
		CASE(REBUILD "(" STORAGE("0", "\x0c") "J\xFF\xFF\xFF\xFFK\3\x85K\1\x85tR.", "22P03",
			 "a tensor is described otherwise"),
		CASE(REBUILD "(" STORAGE("0", "\x0c") "K\0(K\1K\1K\1K\1K\1K\1K\1K\1K\1t"
			 "(K\1K\1K\1K\1K\1K\1K\1K\1K\1ttR.", "22P03", "a tensor is described otherwise"),
		CASE(REBUILD "(" STORAGE("0", "\x0c") "K\0(J\xFF\xFF\xFF\x7FJ\xFF\xFF\xFF\x7FJ\xFF\xFF\xFF"
			 "\x7Ft(K\1K\1K\1ttR.", "22P03", "a shape is too large"),
		CASE("}X\1\0\0\0w" REBUILD "(" STORAGE("0", "\x0c") "K\0K\3K\4\x86K\1K\3\x86tRs.", "0A000",
			 "tensor \"w\" in \"p\" is not contiguous"),
	};
	static const char view[] = "}X\1\0\0\0w" REBUILD "(" STORAGE("0", "\x0c")
		"K\2K\3K\1\x86K\1K\7\x86tRs.";
	g2_pickle_tensor *tensors;
	uint32_t	n;
	g2_error	err;

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		bool		ok = g2_pickle_tensors("p", cases[i].data, cases[i].len, &tensors, &n, &err);

		if (ok || !strstr(err.message, cases[i].part) ||
			strcmp(g2_sqlstate(err.code), cases[i].state) != 0)
			fail_msg("case %zu: %s \"%s\"", i, ok ? "accepted" : g2_sqlstate(err.code),
					 err.message);
	}
	assert_true(g2_pickle_tensors("p", view, sizeof view - 1, &tensors, &n, &err));
	assert_int_equal(n, 1);
	assert_int_equal(tensors->count, 3);
	assert_int_equal(tensors->offset, 2);
	assert_int_equal(tensors->storage_count, 12);
	assert_memory_equal(tensors->name.data, "w", 1);
	g2_free(tensors);
}

/* A value for each byte, and tuples of tuples: bounded, and without recursion. */
static void
test_large_pickles(void **state)
{
	g2_buf		data = {0};
	g2_pickle_tensor *tensors;
	uint32_t	n;
	g2_error	err;

	(void) state;
	for (int i = 0; i < 1000000; i++)
		g2_buf_append(&data, "N", 1);
	assert_false(g2_pickle_tensors("p", data.data, data.len, &tensors, &n, &err));
	assert_string_equal(g2_sqlstate(err.code), "53400");
	data.len = 0;
	g2_buf_append(&data, "Nq\0", 3);
	for (int i = 0; i < 1000000; i++)
		g2_buf_append(&data, "h\0\x87", i % 3 == 2 ? 3 : 2);
	assert_false(g2_pickle_tensors("p", data.data, data.len, &tensors, &n, &err));
	assert_string_equal(g2_sqlstate(err.code), "53400");
	data.len = 0;
	for (int i = 0; i < 100000; i++)
		g2_buf_append(&data, "N\x85", i ? 1 : 2);
	g2_buf_append(&data, ".", 1);
	assert_false(g2_pickle_tensors("p", data.data, data.len, &tensors, &n, &err));
	g2_buf_free(&data);
}

/* ---------------------------------------------------------------- archives */

static void
put(g2_buf *b, uint64_t value, size_t bytes)
{
	g2_buf_append(b, &value, bytes);
}

/* Adds a stored entry, and its line of the directory. */
static void
add_entry(g2_buf *b, g2_buf *directory, const char *name, const void *data, size_t len)
{
	size_t		at = b->len,
				n = strlen(name);

	g2_buf_append(b, "PK\3\4", 4);
	put(b, 10, 8);				/* version, flags, method, time */
	put(b, 0, 6);				/* date, checksum */
	put(b, len, 4);
	put(b, len, 4);
	put(b, n, 4);
	g2_buf_append(b, name, n);
	g2_buf_append(b, data, len);
	g2_buf_append(directory, "PK\1\2", 4);
	put(directory, 10 | 10 << 16, 8);
	put(directory, 0, 8);
	put(directory, len, 4);
	put(directory, len, 4);
	put(directory, n, 8);
	put(directory, 0, 6);
	put(directory, at, 4);
	g2_buf_append(directory, name, n);
}

/* Views of one storage: a few are fine, more bytes than the file has are not. */
static void
test_views(void **state)
{
	(void) state;
	for (int views = 1; views <= 2; views++)
	{
		g2_buf		b = {0},
					directory = {0},
					pickle = {0};
		float		data[250] = {0};
		size_t		start;
		bool		ok;
		g2_error	err;

		g2_buf_printf(&pickle, "}");
		for (int i = 0; i < views; i++)
		{
			g2_buf_append(&pickle, "X\1\0\0\0", 5);
			g2_buf_printf(&pickle, "%c" REBUILD, 'a' + i);
			g2_buf_append(&pickle, "(" STORAGE("0", "\xFA"), sizeof "(" STORAGE("0", "\xFA") - 1);
			g2_buf_append(&pickle, "K\0K\xFA\x85K\1\x85tRs", 11);
			/* the second from element 1 on, of one element less */
			pickle.data[pickle.len - 10] = (char) i;
			pickle.data[pickle.len - 8] = (char) (0xFA - i);
		}
		g2_buf_printf(&pickle, ".");
		add_entry(&b, &directory, "a/data.pkl", pickle.data, pickle.len);
		add_entry(&b, &directory, "a/data/0", data, sizeof data);
		start = b.len;
		g2_buf_append(&b, directory.data, directory.len);
		g2_buf_append(&b, "PK\5\6\0\0\0\0", 8);
		put(&b, 2 | 2 << 16, 4);
		put(&b, directory.len, 4);
		put(&b, start, 4);
		put(&b, 0, 2);
		assert_false(b.failed || directory.failed || pickle.failed);
		ok = g2_import_check(b.data, b.len, &err);
		if (ok != (views == 1))
			fail_msg("%d views: %s", views, ok ? "accepted" : err.message);
		g2_buf_free(&b);
		g2_buf_free(&directory);
		g2_buf_free(&pickle);
	}
}

/* The same archive with a 64-bit end of its directory. */
static void
test_large_archive(void **state)
{
	g2_buf		b = {0};
	size_t		end = checkpoint.len - 22;
	uint16_t	entries;
	uint32_t	size,
				offset;
	g2_error	err;

	(void) state;
	memcpy(&entries, checkpoint.data + end + 10, 2);
	memcpy(&size, checkpoint.data + end + 12, 4);
	memcpy(&offset, checkpoint.data + end + 16, 4);
	g2_buf_append(&b, checkpoint.data, end);
	g2_buf_append(&b, "PK\6\6", 4);
	put(&b, 44, 8);
	put(&b, 45 | 45 << 16, 4);
	put(&b, 0, 8);
	put(&b, entries, 8);
	put(&b, entries, 8);
	put(&b, size, 8);
	put(&b, offset, 8);
	g2_buf_append(&b, "PK\6\7", 4);
	put(&b, 0, 4);
	put(&b, end, 8);
	put(&b, 1, 4);
	g2_buf_append(&b, "PK\5\6\0\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0", 22);
	assert_false(b.failed);
	if (!g2_import_check(b.data, b.len, &err))
		fail_msg("%s", err.message);
	/* more entries than there are, and a directory elsewhere */
	b.data[end + 32]++;
	assert_false(g2_import_check(b.data, b.len, &err));
	assert_string_equal(g2_sqlstate(err.code), "22P03");
	b.data[end + 39] = 1;
	assert_false(g2_import_check(b.data, b.len, &err));
	assert_string_equal(g2_sqlstate(err.code), "53400");
	g2_buf_free(&b);
}

/* Cut anywhere, one byte changed anywhere: an error of these kinds, or the same result. */
static void
test_damaged(void **state)
{
	static const unsigned char masks[] = {0x01, 0x08, 0x80, 0xFF};
	char	   *copy;
	g2_error	err;
	int			accepted = 0;

	(void) state;
	for (size_t n = 0; n < checkpoint.len; n++)
	{
		copy = malloc(n ? n : 1);
		assert_non_null(copy);
		memcpy(copy, checkpoint.data, n);
		assert_false(g2_import_check(copy, n, &err));
		free(copy);
	}
	copy = malloc(checkpoint.len);
	assert_non_null(copy);
	memcpy(copy, checkpoint.data, checkpoint.len);
	for (size_t i = 0; i < checkpoint.len; i++)
		for (size_t k = 0; k < G2_LENGTH(masks); k++)
		{
			copy[i] ^= (char) masks[k];
			if (g2_import_check(copy, checkpoint.len, &err))
				accepted++;
			else
				assert_true(err.code == G2_E_BAD_FILE || err.code == G2_E_UNSUPPORTED ||
							err.code == G2_E_LIMIT);
			copy[i] ^= (char) masks[k];
		}
	assert_true(accepted > 0);	/* numbers, padding, checksums */
	free(copy);
}

static void
test_out_of_memory(void **state)
{
	g2_error	err;
	g2_import_result result;
	bool		ok = false;
	int			failures = 0;

	(void) state;
	tb_write(folder, "pytorch_model.bin", checkpoint.data, checkpoint.len);
	for (long n = 1; !ok; n++)
	{
		g2_alloc_fail_at(n);
		ok = g2_import(folder, &result, &err);
		g2_alloc_fail_at(0);
		if (!ok)
		{
			assert_string_equal(g2_sqlstate(err.code), "53200");
			assert_int_equal(access(tb_path(folder, "model.safetensors"), F_OK), -1);
		}
		failures += !ok;
	}
	assert_true(failures > 10);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_checkpoint, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pickles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_pickles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_views, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_archive, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_out_of_memory, setup, teardown),
	};

	return cmocka_run_group_tests_name("import", tests, NULL, NULL);
}
