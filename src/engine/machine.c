/*
 * machine.c: cores and memory as the kernel grants them (sched_getaffinity, sysfs, cgroup v2/v1);
 * the nice value of a session (autogroup).
 */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util.h"

/* First line of a small file; false when it cannot be read. */
static bool
read_line(const char *path, char *line, size_t size)
{
	FILE	   *f = fopen(path, "re");
	bool		ok;

	if (!f)
		return false;
	ok = fgets(line, (int) size, f) != NULL;
	fclose(f);
	return ok;
}

/* The lowest processor that shares a core with cpu: hyper-threads count once. */
static unsigned
first_sibling(unsigned cpu)
{
	char		path[96],
				line[256];
	unsigned	first;

	snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu);
	if (read_line(path, line, sizeof line) && sscanf(line, "%u", &first) == 1)
		return first;
	return cpu;
}

static uint32_t
allowed_cores(void)
{
	cpu_set_t	allowed,
				counted;
	uint32_t	n = 0;

	if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
		return 1;
	CPU_ZERO(&counted);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
	{
		unsigned	core;

		if (!CPU_ISSET(cpu, &allowed))
			continue;
		core = first_sibling(cpu);
		if (core < CPU_SETSIZE && CPU_ISSET(core, &counted))
			continue;
		if (core < CPU_SETSIZE)
			CPU_SET(core, &counted);
		n++;
	}
	return G2_MAX(n, 1u);
}

/* Path of this process's cgroup v2 directory below /sys/fs/cgroup. */
static bool
cgroup_file(const char *name, char *path, size_t size)
{
	char		line[512];

	if (!read_line("/proc/self/cgroup", line, sizeof line) || strncmp(line, "0::", 3) != 0)
		return false;
	line[strcspn(line, "\n")] = '\0';
	return (size_t) snprintf(path, size, "/sys/fs/cgroup%s/%s", line + 3, name) < size;
}

/* Reads a v2 limit from the process's own cgroup or, in a container, from the visible root. */
static bool
read_cgroup(const char *name, char *line, size_t size)
{
	char		path[640];

	if (cgroup_file(name, path, sizeof path) && read_line(path, line, size))
		return true;
	snprintf(path, sizeof path, "/sys/fs/cgroup/%s", name);
	return read_line(path, line, size);
}

/* Processor time per period, in microseconds; -1 = no limit. */
static bool
cpu_quota(long long *quota, long long *period)
{
	char		line[128];

	if (read_cgroup("cpu.max", line, sizeof line))
		return sscanf(line, "%lld %lld", quota, period) == 2;
	return read_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", line, sizeof line) &&
		sscanf(line, "%lld", quota) == 1 &&
		read_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us", line, sizeof line) &&
		sscanf(line, "%lld", period) == 1;
}

uint32_t
g2_machine_cores(void)
{
	uint32_t	cores = allowed_cores();
	long long	quota,
				period;

	if (cpu_quota(&quota, &period) && quota > 0 && period > 0)
		cores = (uint32_t) G2_MIN((long long) cores, (quota - 1) / period + 1);
	return cores;
}

uint64_t
g2_machine_memory(void)
{
	long		pages = sysconf(_SC_PHYS_PAGES),
				page = sysconf(_SC_PAGESIZE);
	uint64_t	bytes = pages > 0 && page > 0 ? (uint64_t) pages * (uint64_t) page : 1u << 30;
	char		line[128];
	unsigned long long limit;

	if ((read_cgroup("memory.max", line, sizeof line) ||
		 read_line("/sys/fs/cgroup/memory/memory.limit_in_bytes", line, sizeof line)) &&
		sscanf(line, "%llu", &limit) == 1)
		bytes = G2_MIN(bytes, (uint64_t) limit);
	return bytes;
}

bool
g2_machine_nice_session(uint32_t nice)
{
	const struct timespec pause = {.tv_nsec = 100000000};
	char		value[16];
	int			len = snprintf(value, sizeof value, "%u", nice),
				fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
	bool		ok;

	if (fd < 0)
		return errno == ENOENT;
	ok = write(fd, value, (size_t) len) == len;
	/* The kernel takes one such change in 100 ms from all who are not root. */
	for (int attempt = 0; !ok && errno == EAGAIN && attempt < 3; attempt++)
	{
		nanosleep(&pause, NULL);
		ok = write(fd, value, (size_t) len) == len;
	}
	close(fd);
	return ok;
}
