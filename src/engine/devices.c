/*
 * devices.c: models dealt out to the CPU's back end and to a CUDA device's, where there is one.
 *
 * Plans of both devices end in the order in which they were submitted, as backend.h wants it: the
 * ring says whose turn it is.  Everything here belongs to the scheduler's thread, but what a load
 * touches as it fills a model.
 */
#include "devices.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "cuda_library.h"
#include "device_failures.h"

#define MAX_DEVICE 63

typedef struct device
{
	const g2_backend_api *api;
	g2_backend *backend;		/* NULL: there is none */
	uint32_t	number;
} device;

struct g2_backend
{
	device		cpu;			/* number 0 */
	device		cuda;			/* number 1 */
	bool		prefers_cuda;	/* gpt2.device is not cpu */
	bool		insists;		/* nor auto */
	g2_error	why;			/* there is no CUDA device */
	const char *place;			/* of the next model: "auto", "cpu" or "cuda" */
	const device *ring[G2_MAX_PLANS];
	uint32_t	oldest;
	uint32_t	n_flying;
	atomic_bool lost;
	const char *failures;		/* file; or NULL */
	void		(*log) (void *arg, const char *line);
	void	   *log_arg;
};

struct g2_backend_model
{
	g2_backend *devices;
	const device *device;
	g2_backend_model *model;	/* that device's own */
	g2_format	format;
};

/* ---- names ---- */

bool
g2_device_name_check(const char *name, uint32_t *index)
{
	uint32_t	number = 0;

	if (strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0 || strcmp(name, "cuda") == 0)
		return true;
	if (strncmp(name, "cuda:", 5) != 0 || name[5] == '\0' || strlen(name) > 7)
		return false;
	for (const char *p = name + 5; *p; p++)
	{
		if (*p < '0' || *p > '9')
			return false;
		number = number * 10 + (uint32_t) (*p - '0');
	}
	if (index)
		*index = number;
	return number <= MAX_DEVICE;
}

/* ---- open and close ---- */

static void G2_PRINTF(2, 3)
say(const g2_backend *b, const char *fmt,...)
{
	char		line[1200];
	va_list		args;

	if (!b->log)
		return;
	va_start(args, fmt);
	vsnprintf(line, sizeof line, fmt, args);
	va_end(args);
	b->log(b->log_arg, line);
}

static void
devices_close(g2_backend *b)
{
	if (!b)
		return;
	if (b->cuda.backend)
		b->cuda.api->close(b->cuda.backend);
	if (b->cpu.backend)
		b->cpu.api->close(b->cpu.backend);
	g2_free(b);
}

/* Without one, models are refused (cuda) or run on the CPU (auto). */
static void
open_cuda(g2_backend *b, const g2_backend_options *options, uint32_t index, int event_fd)
{
	g2_backend_options own = *options;
	g2_backend_device about;

	own.device = index;
	if (!b->insists && b->failures && g2_device_failures(b->failures) >= G2_DEVICE_FAILURES_MOST)
	{
		g2_fail(&b->why, G2_E_UNSUPPORTED, "no CUDA device can be used: it has failed %d times in %d "
				"minutes", G2_DEVICE_FAILURES_MOST, G2_DEVICE_FAILURES_S / 60);
		g2_fail_hint(&b->why, "See the server log for the cause; gpt_restart_engine() tries it again "
					 "later, gpt2.device = \"cuda\" at once.");
		say(b, "%s; computing on the CPU", b->why.message);
		return;
	}
	if (!g2_cuda_library(&b->cuda.api, &b->why) ||
		!b->cuda.api->open(&own, event_fd, &b->cuda.backend, &b->why))
	{
		b->cuda.backend = NULL;
		say(b, b->insists ? "%s" : "%s; computing on the CPU", b->why.message);
		return;
	}
	b->cuda.api->describe(b->cuda.backend, &about);
	say(b, "computing on %s, driver %s, with %.1f MB of its memory, up to %u sequences at once",
		about.name, about.driver, (double) about.free_bytes / 1e6,
		b->cuda.api->slots(b->cuda.backend, 0));
}

static bool
devices_open(const g2_backend_options *options, int event_fd, g2_backend **out, g2_error *err)
{
	const char *name = options->devices ? options->devices : "auto";
	uint32_t	index = 0;
	g2_backend *b;

	if (!g2_device_name_check(name, &index))
		return g2_fail(err, G2_E_PARAM, "unknown device \"%.32s\"", name);
	b = g2_alloc(sizeof *b);
	if (!b)
		return g2_fail_memory(err, sizeof *b);
	b->log = options->log;
	b->log_arg = options->log_arg;
	b->failures = options->failures;
	b->place = "auto";
	b->cpu.api = &g2_cpu_backend;
	b->cuda.number = 1;
	if (!b->cpu.api->open(options, event_fd, &b->cpu.backend, err))
	{
		g2_free(b);
		return false;
	}
	b->prefers_cuda = strcmp(name, "cpu") != 0;
	b->insists = b->prefers_cuda && strcmp(name, "auto") != 0;
	if (b->prefers_cuda)
		open_cuda(b, options, index, event_fd);
	else
	{
		g2_fail(&b->why, G2_E_UNSUPPORTED,
				"no CUDA device can be used: gpt2.device is \"cpu\"");
		g2_fail_hint(&b->why, "Set gpt2.device to \"auto\" or \"cuda\".");
	}
	*out = b;
	return true;
}

static const char *
devices_isa(const g2_backend *b)
{
	return b->cpu.api->isa(b->cpu.backend);
}

static const char *
devices_arithmetic(const g2_backend *b, g2_format format)
{
	return b->cpu.api->arithmetic(b->cpu.backend, format);
}

static void
devices_describe(const g2_backend *b, g2_backend_device *about)
{
	*about = (g2_backend_device) {0};
	if (b->cuda.backend)
		b->cuda.api->describe(b->cuda.backend, about);
}

static uint32_t
devices_slots(const g2_backend *b, uint32_t number)
{
	const device *d = number == b->cpu.number ? &b->cpu : &b->cuda;

	return number == d->number && d->backend ? d->api->slots(d->backend, 0) : 0;
}

bool
g2_devices_lost(const g2_backend *b)
{
	return atomic_load(&b->lost);
}

/* After an error of a device: whether it is one after which the device is no more. */
static void
note_error(g2_backend *b, const device *d, const g2_error *err)
{
	if (d != &b->cuda || err->code != G2_E_SYSTEM)
		return;
	if (!atomic_exchange(&b->lost, true) && b->failures)
		g2_device_failures_note(b->failures);
}

/* ---- models ---- */

static void
devices_place(g2_backend *b, const char *place)
{
	b->place = place;
}

static bool
load_on(const device *d, const g2_weights *weights, g2_backend_model *m, g2_error *err)
{
	m->device = d;
	return d->api->model_load(d->backend, weights, &m->model, err);
}

/* What a CUDA device cannot run, or has no memory for, runs on the CPU, unless it was asked for. */
static bool
load_somewhere(g2_backend *b, const g2_weights *weights, g2_backend_model *m, g2_error *err)
{
	const bool	asked = strcmp(b->place, "cuda") == 0,
				insists = asked || (b->insists && strcmp(b->place, "auto") == 0);

	if (strcmp(b->place, "cpu") == 0 || (!b->prefers_cuda && !asked))
		return load_on(&b->cpu, weights, m, err);
	if (!b->cuda.backend)
	{
		if (!insists)
			return load_on(&b->cpu, weights, m, err);
		*err = b->why;
		return false;
	}
	if (load_on(&b->cuda, weights, m, err))
		return true;
	note_error(b, &b->cuda, err);
	if (insists || (err->code != G2_E_UNSUPPORTED && err->code != G2_E_MEMORY))
		return false;
	say(b, "a model runs on the CPU: %s%s%s", err->message, err->detail[0] ? ". " : "",
		err->detail);
	return load_on(&b->cpu, weights, m, err);
}

static bool
devices_model_load(g2_backend *b, const g2_weights *weights, g2_backend_model **out, g2_error *err)
{
	g2_backend_model *m = g2_alloc(sizeof *m);
	bool		ok;

	if (!m)
		return g2_fail_memory(err, sizeof *m);
	m->devices = b;
	m->format = weights->format;
	ok = load_somewhere(b, weights, m, err);
	b->place = "auto";
	if (!ok)
	{
		g2_free(m);
		return false;
	}
	*out = m;
	return true;
}

/* By any thread. */
static bool
devices_model_fill(g2_backend_model *m, const g2_weights *weights, g2_error *err)
{
	g2_error	why = {0};

	if (!m->device->api->model_fill || m->device->api->model_fill(m->model, weights, &why))
		return true;
	note_error(m->devices, m->device, &why);
	*err = why;
	return false;
}

static void
devices_model_unload(g2_backend *b, g2_backend_model *m)
{
	(void) b;
	if (!m)
		return;
	m->device->api->model_unload(m->device->backend, m->model);
	g2_free(m);
}

static uint32_t
devices_number(const g2_backend_model *m)
{
	return m->device->number;
}

static const char *
devices_device(const g2_backend_model *m)
{
	return m->device->api->name;
}

static const char *
devices_model_arithmetic(const g2_backend_model *m)
{
	return m->device->api->arithmetic(m->device->backend, m->format);
}

static size_t
devices_block_bytes(const g2_backend_model *m)
{
	return m->device->api->kv_block_bytes(m->model);
}

static bool
devices_kv_reserve(g2_backend_model *m, uint32_t n_blocks, g2_error *err)
{
	if (m->device->api->kv_reserve(m->model, n_blocks, err))
		return true;
	note_error(m->devices, m->device, err);
	return false;
}

static uint32_t
devices_kv_slab(const g2_backend_model *m, size_t *bytes)
{
	if (m->device->api->kv_slab)
		return m->device->api->kv_slab(m->model, bytes);
	*bytes = devices_block_bytes(m);
	return 1;
}

static uint32_t
devices_kv_spare(const g2_backend_model *m)
{
	return m->device->api->kv_spare ? m->device->api->kv_spare(m->model) : UINT32_MAX;
}

static bool
devices_kv_map(g2_backend_model *m, uint32_t slab)
{
	return !m->device->api->kv_map || m->device->api->kv_map(m->model, slab);
}

static void
devices_kv_unmap(g2_backend_model *m, uint32_t slab)
{
	if (m->device->api->kv_unmap)
		m->device->api->kv_unmap(m->model, slab);
}

static bool
devices_kv_copy(g2_backend_model *m, uint32_t to, uint32_t from, g2_error *err)
{
	return m->device->api->kv_copy(m->model, to, from, err);
}

static bool
devices_kv_zero(g2_backend_model *m, const uint32_t *blocks, uint32_t n, g2_error *err)
{
	return m->device->api->kv_zero(m->model, blocks, n, err);
}

/* ---- slots and plans ---- */

static bool
devices_slot_set(g2_backend *b, uint32_t slot, const g2_slot_state *state, g2_error *err)
{
	const device *d = state->model ? state->model->device : &b->cpu;

	return d->api->slot_set(d->backend, slot, state, err);
}

static bool
devices_step_submit(g2_backend *b, const g2_plan *plan, g2_result *result, g2_error *err)
{
	g2_error	why = {0};
	g2_plan		own;
	const device *d;

	if (!plan || !plan->model)
		return g2_fail(err, G2_E_INTERNAL, "invalid plan: an array is missing (0)");
	if (b->n_flying == G2_MAX_PLANS)
		return g2_fail(err, G2_E_INTERNAL, "invalid plan: %d plans are in flight", G2_MAX_PLANS);
	d = plan->model->device;
	own = *plan;
	own.model = plan->model->model;
	if (!d->api->step_submit(d->backend, &own, result, &why))
	{
		note_error(b, d, &why);
		if (err)
			*err = why;
		return false;
	}
	b->ring[(b->oldest + b->n_flying++) % G2_MAX_PLANS] = d;
	return true;
}

static g2_result *
devices_step_result(g2_backend *b, bool *failed, g2_error *err)
{
	g2_error	own = {0};
	const device *d = b->ring[b->oldest];
	g2_result  *result;

	*failed = false;
	if (b->n_flying == 0)
		return NULL;
	result = d->api->step_result(d->backend, failed, &own);
	if (!result)
		return NULL;
	b->oldest = (b->oldest + 1) % G2_MAX_PLANS;
	b->n_flying--;
	if (!*failed)
		return result;
	note_error(b, d, &own);
	if (err)
		*err = own;
	return result;
}

const g2_backend_api g2_devices_backend = {
	.version = G2_BACKEND_VERSION,
	.name = "devices",
	.open = devices_open,
	.close = devices_close,
	.isa = devices_isa,
	.arithmetic = devices_arithmetic,
	.describe = devices_describe,
	.slots = devices_slots,
	.model_load = devices_model_load,
	.model_fill = devices_model_fill,
	.model_unload = devices_model_unload,
	.kv_block_bytes = devices_block_bytes,
	.kv_reserve = devices_kv_reserve,
	.kv_slab = devices_kv_slab,
	.kv_spare = devices_kv_spare,
	.kv_map = devices_kv_map,
	.kv_unmap = devices_kv_unmap,
	.kv_copy = devices_kv_copy,
	.kv_zero = devices_kv_zero,
	.slot_set = devices_slot_set,
	.step_submit = devices_step_submit,
	.step_result = devices_step_result,
	.place = devices_place,
	.device_number = devices_number,
	.device = devices_device,
	.model_arithmetic = devices_model_arithmetic,
};
