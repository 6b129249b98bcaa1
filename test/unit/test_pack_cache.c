/*
 * test_pack_cache.c: gpt2.pack_cache_size: which packs go, and which stay.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "registry_fixture.h"

#define N_MODELS 4

static const char *const names[N_MODELS] = {"a", "b", "c", "d"};

/* Takes what the helper thread has ended, until `ready` says so. */
static void
run_until_true(bool (*ready) (uint32_t arg), uint32_t arg)
{
	int64_t		start = g2_now_us();

	while (!ready(arg))
	{
		struct pollfd event = {.fd = helper_fd, .events = POLLIN};
		uint64_t	count;

		poll(&event, 1, 1000);
		if (read(helper_fd, &count, sizeof count) > 0)
			g2_registry_collect(registry);
		if (g2_now_us() - start > HANG_US)
			fail_msg("it hangs");
	}
}

static bool
has_pack(const char *name)
{
	DIR		   *dir = opendir(places.packs);
	const struct dirent *entry;
	bool		found = false;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
		found |= strncmp(entry->d_name, name, strlen(name)) == 0 &&
			entry->d_name[strlen(name)] == '-' && strstr(entry->d_name, "-f32-");
	closedir(dir);
	return found;
}

/* Packs that are there, one bit each. */
static uint32_t
packs(void)
{
	uint32_t	bits = 0;

	for (uint32_t i = 0; i < N_MODELS; i++)
		bits |= has_pack(names[i]) ? 1u << i : 0;
	return bits;
}

static bool
packs_are(uint32_t bits)
{
	return packs() == bits;
}

static bool
n_lines_are(uint32_t n)
{
	return count_lines("to keep gpt2.pack_cache_size") == n;
}

static uint64_t
pack_bytes(void)
{
	return find_model("a")->pack->bytes;
}

static void
unload(const char *name)
{
	g2_error	err;

	EXPECT_OK(g2_registry_unload(registry, g2_span_of(name), &err), err);
}

static int
set_up_models(void **state)
{
	g2_synth_options options = tiny_model;

	(void) state;
	fixture_open(&places);
	for (uint32_t i = 0; i < N_MODELS; i++)
	{
		options.seed = i;
		fixture_synth(&places, names[i], &options);
	}
	return 0;
}

/* Without a limit all stay; with one, those not used for longest go, loaded ones never. */
static void
test_limit(void **state)
{
	g2_settings s = settings();
	g2_error	err;

	(void) state;
	open_registry(&s);
	for (uint32_t i = 0; i < N_MODELS; i++)
		use_model(names[i]);
	assert_int_equal(packs(), 0xF);
	tb_text(places.packs, "notes-f32.pack", "not a pack's name");
	/* All are loaded: nothing goes. */
	s.pack_cache_size = 2 * pack_bytes();
	EXPECT_OK(g2_registry_configure(registry, &s, &err), err);
	use_model("a");
	assert_int_equal(packs(), 0xF);
	/* The last use of a pack is the end of its model. */
	unload("b");
	run_until_true(packs_are, 0xD);
	unload("c");
	run_until_true(packs_are, 0x9);
	run_until_true(n_lines_are, 2);
	assert_int_equal(count_lines("removed 1 packed files"), 2);
	unload("a");
	unload("d");
	use_model("b");
	run_until_true(packs_are, 0xA);
	run_until_true(n_lines_are, 3);
	assert_int_equal(tb_count(places.packs), 3);
	close_registry();
	/* The setting alone, nothing loaded. */
	s.pack_cache_size = 0;
	open_registry(&s);
	s.pack_cache_size = 1;
	EXPECT_OK(g2_registry_configure(registry, &s, &err), err);
	run_until_true(packs_are, 0);
	run_until_true(n_lines_are, 1);
	assert_int_equal(count_lines("removed 2 packed files"), 1);
	assert_int_equal(tb_count(places.packs), 1);
	/* A limit below one pack: it goes with its model, and is made again. */
	use_model("c");
	assert_int_equal(packs(), 0x4);
	unload("c");
	run_until_true(packs_are, 0);
	use_model("c");
	close_registry();
}

/* Opening counts as use, though a pack's contents never change; who has it open in another process
 * keeps it too. */
static void
test_in_use(void **state)
{
	const char *directory = places.models;
	g2_model_paths paths = {&directory, 1, places.packs, 0};
	g2_pack    *pack[3];
	g2_error	err;
	int			fd;
	g2_pack_trimmed removed;

	(void) state;
	for (int i = 0; i < 3; i++)
		EXPECT_OK(g2_pack_open(&paths, names[i], G2_FORMAT_F32, NULL, NULL, &pack[i], &err), err);
	assert_int_equal(g2_pack_trim(places.packs, 1).n, 0);
	fd = open(pack[2]->path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_SH), 0);
	g2_pack_close(pack[2]);
	g2_pack_close(pack[1]);
	removed = g2_pack_trim(places.packs, 1);
	assert_int_equal(removed.n, 1);
	assert_int_equal(removed.bytes, pack[0]->bytes);
	assert_int_equal(packs(), 0x5);
	close(fd);
	assert_int_equal(g2_pack_trim(places.packs, pack[0]->bytes).n, 1);
	assert_int_equal(packs(), 0x1);
	g2_pack_close(pack[0]);
	/* Nothing to do, and no such directory. */
	assert_int_equal(g2_pack_trim(places.packs, UINT64_MAX).n, 0);
	assert_int_equal(g2_pack_trim("/nonexistent", 0).n, 0);
	for (long n = 1; n < 4; n++)
	{
		g2_alloc_fail_at(n);
		removed = g2_pack_trim(places.packs, 0);
		g2_alloc_fail_at(0);
		assert_int_equal(removed.n, n == 3);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_limit, set_up_models, tear_down),
		cmocka_unit_test_setup_teardown(test_in_use, set_up_models, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
