/*
 * device_failures.c: the file holds the times of the last failures, seconds since 1970.  It is
 * written by one process at a time, the engine that ends; a torn or foreign file counts as what can
 * be made of it: times that are not within the span are no failures.
 */
#include "device_failures.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "file.h"

static uint32_t
read_recent(const char *path, int64_t now, int64_t recent[G2_DEVICE_FAILURES_MOST])
{
	int64_t		times[G2_DEVICE_FAILURES_MOST];
	uint32_t	n = 0;
	ssize_t		got = 0;
	int			fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd >= 0)
	{
		got = read(fd, times, sizeof times);
		close(fd);
	}
	for (ssize_t i = 0; i < got / (ssize_t) sizeof *times; i++)
		if (times[i] <= now && times[i] >= now - G2_DEVICE_FAILURES_S)
			recent[n++] = times[i];
	return n;
}

uint32_t
g2_device_failures(const char *path)
{
	int64_t		recent[G2_DEVICE_FAILURES_MOST];

	return read_recent(path, time(NULL), recent);
}

void
g2_device_failures_note(const char *path)
{
	int64_t		times[G2_DEVICE_FAILURES_MOST + 1],
				now = time(NULL);
	uint32_t	n = read_recent(path, now, times),
				drop;
	int			fd;

	times[n++] = now;
	drop = n > G2_DEVICE_FAILURES_MOST;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, G2_FILE_MODE);
	if (fd < 0)
		return;
	if (write(fd, times + drop, (n - drop) * sizeof *times) < 0)
		(void) unlink(path);
	close(fd);
}
