/*
 * test_train_folder.c: the finished model's folder and the directory it goes to: what has been left
 * behind in them, models that give way, file systems, what is on disk when.
 */
#include "train_job.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define NO_FILTER 77			/* exit status: the kernel takes none */

/* A model that was replaced, and whose trainer was killed before it could remove it, is no part of
 * the next. */
static void
test_left_behind(void **state)
{
	char	   *root = new_root();
	char		left[600],
				deep[700];
	g2_train	o = small_options();
	g2_error	err;

	(void) state;
	snprintf(left, sizeof left, "%s/train/job/model", root);
	snprintf(deep, sizeof deep, "%s/onnx", left);
	assert_int_equal(mkdir(left, 0700), 0);
	tb_text(left, "vocab.json", "{}");
	assert_int_equal(mkdir(deep, 0700), 0);
	tb_text(deep, "x", "x");
	EXPECT_OK(run_job(root, &o, 20, &err), err);
	assert_true(access(tb_path(root, "models/made/vocab.json"), F_OK) != 0);
	assert_true(access(tb_path(root, "models/made/onnx"), F_OK) != 0);
	tb_remove(root);
}

/* A model with folders of its own, which gives way, is removed with the training's directory. */
static void
test_replaces_all(void **state)
{
	char	   *root = new_root();
	char		deep[600];
	g2_train	o = small_options();
	g2_error	err;

	(void) state;
	EXPECT_OK(run_job(root, &o, 20, &err), err);
	snprintf(deep, sizeof deep, "%s/models/made/onnx", root);
	assert_int_equal(mkdir(deep, 0700), 0);
	tb_text(deep, "x", "x");
	start_root(root);
	o.replace = G2_TRAIN_REPLACE_OWN;
	EXPECT_OK(run_job(root, &o, 20, &err), err);
	assert_int_equal(tb_count(tb_path(root, "train")), 0);
	tb_remove(root);
}

/* The kernel has no exchange of names in this process any more. */
static void
forbid_exchange(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[4])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {G2_LENGTH(filter), filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0 ||
		syscall(SYS_renameat2, AT_FDCWD, "/", AT_FDCWD, "/", 2) == 0 || errno != EINVAL)
		_exit(NO_FILTER);
}

static void
test_no_exchange(void **state)
{
	char	   *root = new_root();
	g2_train	o = small_options();
	g2_error	err;
	pid_t		pid;
	int			status;

	(void) state;
	EXPECT_OK(run_job(root, &o, 20, &err), err);
	start_root(root);
	o.replace = G2_TRAIN_REPLACE_OWN;
	o.steps = 3;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
	{
		forbid_exchange();
		_exit(run_job(root, &o, 20, &err) ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_FILTER)
		skip();
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_true(contains(root, "README.md", "3 of 3 steps"));
	assert_int_equal(tb_count(tb_path(root, "train")), 0);
	assert_int_equal(tb_count(tb_path(root, "models")), 1);
	tb_remove(root);
}

/* Said before anything is spent, not after the last step. */
static void
test_other_file_system(void **state)
{
	char	   *root = new_root();
	g2_train	o = small_options();
	g2_error	err;

	(void) state;
	assert_int_equal(symlink("/proc", tb_path(root, "models")), 0);
	assert_false(run_job(root, &o, 20, &err));
	EXPECT_ERROR(err, G2_E_VERSION, "is on another file system");
	assert_true(access(tb_path(root, "train/job/tokens"), F_OK) != 0);
	tb_remove(root);
}

/* ---- what is on disk ---- */

#define MAX_EVENTS 200

/* What was synced or renamed, in its order, by the last part of its (new) path. */
static char events[MAX_EVENTS][300];
static int	n_events;

static void
note(const char *what, const char *path)
{
	const char *slash = strrchr(path, '/');

	if (n_events < MAX_EVENTS)
		snprintf(events[n_events++], sizeof events[0], "%s %s", what, slash ? slash + 1 : path);
}

/* These two in place of the C library's. */
int
fsync(int fd)
{
	char		link[64],
				path[512];
	ssize_t		n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof path - 1);
	path[n > 0 ? n : 0] = '\0';
	note("sync", path);
	return (int) syscall(SYS_fsync, fd);
}

int
rename(const char *from, const char *to)
{
	note("rename", to);
	return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

/* The last such event before `limit`; -1. */
static int
last_event(const char *what, const char *name, int limit)
{
	char		event[300];

	snprintf(event, sizeof event, "%s %s", what, name);
	for (int i = limit - 1; i >= 0; i--)
		if (strcmp(events[i], event) == 0)
			return i;
	return -1;
}

/* Each file, and the folder's entries, before the folder gets its name; then the name; and before
 * all that the name of the directory it is in. */
static void
test_durable(void **state)
{
	char	   *root = new_root();
	g2_train	o = small_options();
	DIR		   *directory;
	struct dirent *entry;
	g2_error	err;
	int			moved,
				n = 0;

	(void) state;
	n_events = 0;
	EXPECT_OK(run_job(root, &o, 20, &err), err);
	moved = last_event("rename", "made", n_events);
	assert_true(moved > 0);
	directory = opendir(tb_path(root, "models/made"));
	assert_non_null(directory);
	while ((entry = readdir(directory)) != NULL)
	{
		const bool	weights = strcmp(entry->d_name, "model.safetensors") == 0;
		const char *name = weights ? "model.safetensors.new" : entry->d_name;
		int			at = last_event("sync", name, moved);

		if (entry->d_name[0] == '.')
			continue;
		assert_true(at >= 0);
		assert_true(last_event("sync", "model", moved) > at);
		n++;
	}
	closedir(directory);
	assert_true(n >= 7);
	assert_true(last_event("sync", "models", n_events) > moved);
	assert_true(last_event("sync", strrchr(root, '/') + 1, moved) >= 0);
	tb_remove(root);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_left_behind),
		cmocka_unit_test(test_replaces_all),
		cmocka_unit_test(test_no_exchange),
		cmocka_unit_test(test_other_file_system),
		cmocka_unit_test(test_durable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
