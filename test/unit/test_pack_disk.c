/*
 * test_pack_disk.c: where packs are written: no room, too little left for others, no directory.
 */
#include "pack_fixture.h"

#include <sys/mount.h>

/* A file system of its own at the path; without the right to that the test is skipped. */
static void
mount_disk(char *path, const char *size)
{
	(void) mkdir(path, 0700);
	if (geteuid() == 0 && mount("tmpfs", path, "tmpfs", 0, size) == 0)
		return;
	free(path);
	print_message("needs the right to mount\n");
	skip();
}

static void
test_disk_full(void **state)
{
	char	   *disk = strdup(tb_path(fx.root, "disk"));
	g2_error	err = {0};
	g2_pack    *pack;

	(void) state;
	mount_disk(disk, "size=64k");
	fixture_synth(&fx, "m", &small_model);
	fx.paths.pack_directory = tb_path(disk, "packs");
	if (g2_pack_open(&fx.paths, "m", G2_FORMAT_F32, NULL, NULL, &pack, &err))
		err.code = G2_OK;
	umount(disk);
	EXPECT_ERROR(err, G2_E_DISK_FULL, "not enough disk space");
	assert_non_null(strstr(err.hint, "gpt2.pack_directory"));
	free(disk);
}

/* A tenth of the file system stays free, whatever the setting says. */
static void
test_reserve(void **state)
{
	g2_synth_options o = {
		.n_layer = 1, .n_embd = 512, .n_head = 8, .n_ff = 2048, .n_ctx = 1024,
		.n_vocab = 30000, .sigma = 0.02, .seed = 3,
	};
	char	   *disk = strdup(tb_path(fx.root, "disk"));
	char		size[64];
	uint64_t	bytes;
	g2_error	err[2] = {{0}};
	g2_pack    *pack;

	(void) state;
	fixture_synth(&fx, "big", &o);
	fx.paths.pack_directory = tb_path(disk, "packs");
	assert_true(g2_pack_missing(&fx.paths, "big", G2_FORMAT_F32, &bytes));
	assert_true(bytes > G2_PACK_SMALL);
	for (int i = 0; i < 2; i++)
	{
		snprintf(size, sizeof size, "size=%llu", (unsigned long long) (bytes / 100 *
																	   (i ? 116 : 106)));
		mount_disk(disk, size);
		if (g2_pack_open(&fx.paths, "big", G2_FORMAT_F32, NULL, NULL, &pack, &err[i]))
		{
			err[i].code = G2_OK;
			g2_pack_close(pack);
		}
		umount(disk);
	}
	EXPECT_ERROR(err[0], G2_E_DISK_FULL, "not enough disk space");
	assert_int_equal(err[1].code, G2_OK);
	free(disk);
}

static void
expect_hint(const char *directory, const char *part)
{
	g2_pack    *pack = NULL;
	g2_error	err = {0};

	fx.paths.pack_directory = directory;
	assert_false(g2_pack_open(&fx.paths, "m", G2_FORMAT_F32, NULL, NULL, &pack, &err));
	EXPECT_ERROR(err, G2_E_NO_FILE, part);
	assert_non_null(strstr(err.hint, "gpt2.pack_directory"));
}

static void
test_pack_directory(void **state)
{
	(void) state;
	fixture_synth(&fx, "m", &small_model);
	expect_hint("/nonexistent/packs", "create directory");
	tb_text(fx.root, "file", "x");
	expect_hint(tb_path(fx.root, "file"), "Not a directory");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_disk_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reserve, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pack_directory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
