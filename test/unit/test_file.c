/*
 * test_file.c: what may be opened as a file of a model, and what reading does with bad ones.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "st_builder.h"

#include "file.h"

static char *folder;

static int
setup(void **state)
{
	(void) state;
	folder = tb_folder();
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	tb_remove(folder);
	return 0;
}

static void
refuse(const char *name, g2_code code, const char *part)
{
	g2_error	err = {0};
	uint64_t	size;

	assert_int_equal(g2_file_open(folder, name, &size, &err), -1);
	EXPECT_ERROR(err, code, part);
}

static void
test_read(void **state)
{
	g2_buf		buf = {0};
	g2_error	err = {0};

	(void) state;
	tb_write(folder, "a", "x\0y", 3);
	EXPECT_OK(g2_file_read(folder, "a", 3, &buf, &err), err);
	assert_int_equal(buf.len, 3);
	assert_memory_equal(buf.data, "x\0y", 4);
	tb_write(folder, "a", "", 0);
	EXPECT_OK(g2_file_read(folder, "a", 3, &buf, &err), err);
	assert_int_equal(buf.len, 0);
	assert_int_equal(buf.data[0], '\0');
	tb_text(folder, "a", "1234");
	assert_false(g2_file_read(folder, "a", 3, &buf, &err));
	EXPECT_ERROR(err, G2_E_BAD_FILE, "has 4 bytes, more than the 3 allowed");
	g2_buf_free(&buf);
}

static void
test_kinds(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int			s = socket(AF_UNIX, SOCK_STREAM, 0);
	g2_error	err = {0};

	(void) state;
	refuse("nothing", G2_E_NO_FILE, "No such file");
	assert_int_equal(mkfifo(tb_path(folder, "fifo"), 0600), 0);
	refuse("fifo", G2_E_PERMISSION, "not a regular file");
	assert_int_equal(mkdir(tb_path(folder, "model.safetensors"), 0700), 0);
	refuse("model.safetensors", G2_E_PERMISSION, "not a regular file");
	refuse("../../../../../dev/zero", G2_E_PERMISSION, "not a regular file");
	assert_int_equal(symlink("/etc/passwd", tb_path(folder, "link")), 0);
	refuse("link", G2_E_PERMISSION, "symbolic link");
	g2_file_open(folder, "link", &(uint64_t) {0}, &err);
	assert_non_null(strstr(err.hint, "cp -rL"));
	snprintf(address.sun_path, sizeof address.sun_path, "%s", tb_path(folder, "socket"));
	if (s >= 0 && bind(s, (struct sockaddr *) &address, sizeof address) == 0)
		refuse("socket", G2_E_PERMISSION, "not a regular file");
	close(s);
}

static void
test_no_permission(void **state)
{
	g2_error	err = {0};

	(void) state;
	tb_text(folder, "secret", "x");
	assert_int_equal(chmod(tb_path(folder, "secret"), 0), 0);
	if (geteuid() == 0)
		skip();					/* root reads everything */
	assert_int_equal(g2_file_open(folder, "secret", &(uint64_t) {0}, &err), -1);
	EXPECT_ERROR(err, G2_E_PERMISSION, "Permission denied");
	assert_non_null(strstr(err.hint, "operating-system user"));
}

static void
test_lfs(void **state)
{
	g2_buf		buf = {0};
	g2_error	err = {0};

	(void) state;
	tb_text(folder, "vocab.json", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n");
	assert_false(g2_file_read(folder, "vocab.json", 1000, &buf, &err));
	EXPECT_ERROR(err, G2_E_BAD_FILE, "Git LFS pointer");
	assert_non_null(strstr(err.hint, "git lfs pull"));
	g2_buf_free(&buf);
}

static void
test_ends_and_errors(void **state)
{
	char		bytes[8];
	g2_error	err = {0};
	uint64_t	size;
	int			fd,
				full;

	(void) state;
	tb_text(folder, "short", "1234");
	fd = g2_file_open(folder, "short", &size, &err);
	assert_true(fd >= 0);
	assert_int_equal(size, 4);
	assert_true(g2_file_pread(fd, "short", bytes, 2, 2, &err));
	assert_memory_equal(bytes, "34", 2);
	assert_false(g2_file_pread(fd, "short", bytes, 8, 0, &err));
	EXPECT_ERROR(err, G2_E_IO, "ends at byte 4");
	assert_false(g2_file_write(fd, "short", "x", 1, &err));	/* opened for reading */
	EXPECT_ERROR(err, G2_E_IO, "could not write");
	close(fd);
	full = open("/dev/full", O_WRONLY);
	if (full >= 0)
	{
		assert_false(g2_file_write(full, "full", "x", 1, &err));
		EXPECT_ERROR(err, G2_E_DISK_FULL, "No space");
		close(full);
	}
}

static void
test_long_path(void **state)
{
	g2_buf		path = {0};
	g2_error	err = {0};
	const char *tail;

	(void) state;
	for (int i = 0; i < 300; i++)
		g2_buf_append(&path, "\xC3\xA4", 2);
	g2_buf_append(&path, "", 1);
	tail = g2_file_tail(path.data);
	assert_true(strlen(tail) <= 200);
	assert_int_equal(g2_utf8_valid_prefix(tail, strlen(tail)), strlen(tail));
	assert_int_equal(g2_file_open(folder, path.data, &(uint64_t) {0}, &err), -1);
	assert_int_equal(g2_utf8_valid_prefix(err.message, strlen(err.message)), strlen(err.message));
	g2_buf_free(&path);
}

static void
test_memory(void **state)
{
	(void) state;
	tb_text(folder, "m", "contents");
	for (long n = 1;; n++)
	{
		g2_buf		buf = {0};
		g2_error	err = {0};
		bool		ok;

		g2_alloc_fail_at(n);
		ok = g2_file_read(folder, "m", 100, &buf, &err);
		g2_alloc_fail_at(0);
		g2_buf_free(&buf);
		if (ok)
			break;
		assert_int_equal(err.code, G2_E_MEMORY);
		assert_true(n < 100);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_no_permission),
		cmocka_unit_test(test_lfs),
		cmocka_unit_test(test_ends_and_errors),
		cmocka_unit_test(test_long_path),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
