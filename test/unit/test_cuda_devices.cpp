/*
 * test_cuda_devices.cpp: devices.c with a CUDA device: the emulated back end as gpt2_cuda.so beside
 * this program, and an empty library in the driver's place.  Models on both devices at once, which
 * model goes where, results in order, and a device that is lost.
 */
#include "cuda_model_fixture.h"
#include "cuda_state.h"

#include <dlfcn.h>
#include <string>
#include <sys/eventfd.h>
#include <vector>

extern "C"
{
#include "device_failures.h"
#include "devices.h"
}

static const g2_backend_api *const api = &g2_devices_backend;
static std::string logged;
static const char *failures;	/* file that counts them, where a test wants one */

static void
note(void *, const char *line)
{
	logged += line;
	logged += '\n';
}

struct devices
{
	int			fd;
	g2_backend *backend;

	explicit devices(const char *name, uint32_t slots = n_slots)
		: fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), backend(NULL)
	{
		g2_backend_options options = {};
		g2_error	err = {};

		logged.clear();
		options.threads = 1;
		options.slots = slots;
		options.devices = name;
		options.log = note;
		options.failures = failures;
		options.device_memory = 96 << 20;
		if (!api->open(&options, fd, &backend, &err))
			fail_msg("%s", err.message);
	}

	~devices()
	{
		api->close(backend);
		close(fd);
	}
	devices(const devices &) = delete;
	devices &operator=(const devices &) = delete;

	g2_backend_model *
	load(const model &of, const char *place)
	{
		g2_backend_model *m;
		g2_error	err = {};

		api->place(backend, place);
		if (!api->model_load(backend, &of.w, &m, &err) || !api->model_fill(m, &of.w, &err) ||
			!reserve_blocks(api, m, 4, &err))
			fail_msg("%s %s", err.message, err.detail);
		return m;
	}

	bool
	refused(const model &of, const char *place, g2_error *err)
	{
		g2_backend_model *m;

		api->place(backend, place);
		return !api->model_load(backend, &of.w, &m, err);
	}

	g2_result *
	wait(bool *failed, g2_error *err)
	{
		return wait_for_plan(api, backend, fd, failed, err);
	}
};

/* A plan of one row that samples, of its own slot. */
struct one_row
{
	uint32_t	token = 7;
	uint32_t	position = 0;
	uint32_t	block = 1;
	uint32_t	sampled = 0;
	g2_plan_sequence sequence;
	g2_output	output;
	g2_plan		plan;
	g2_result	result;

	one_row(devices &d, g2_backend_model *m, uint32_t slot) : sequence(), output(), plan(), result()
	{
		g2_slot_state state = {};
		g2_error	err;

		state.sampling.repetition_penalty = 1.0f;
		state.sampling.temperature = 1.0f;
		state.sampling.top_p = 1.0f;
		state.sampling.seed = 9;
		state.end_token = G2_TOKEN_NONE;
		state.model = m;
		assert_true(api->slot_set(d.backend, slot, &state, &err));
		sequence = {slot, 0, 1, &block};
		output.slot = slot;
		output.want = G2_WANT_TOKEN;
		plan = {m, 1, 1, &token, &position, 1, &sequence, 1, &output, 0};
		result.token = &sampled;
	}
	one_row(const one_row &) = delete;
	one_row &operator=(const one_row &) = delete;
};

static void
test_both(void **)
{
	model		f32(G2_FORMAT_F32, 64),
				q8(G2_FORMAT_Q8, 64);
	devices		d("auto");
	g2_backend_model *on_cpu = d.load(f32, "cpu"),
			   *on_cuda = d.load(f32, "auto"),
			   *other = d.load(q8, "cuda");
	g2_backend_device about;
	bool		failed;
	g2_error	err = {};

	assert_non_null(strstr(logged.c_str(), "computing on emulated"));
	api->describe(d.backend, &about);
	assert_string_equal(about.name, "emulated");
	assert_int_equal(api->slots(d.backend, 0), n_slots);
	assert_int_equal(api->slots(d.backend, 1), n_slots);
	assert_string_equal(api->device(on_cpu), "cpu");
	assert_string_equal(api->device(on_cuda), "cuda");
	assert_string_equal(api->model_arithmetic(on_cuda), api->model_arithmetic(on_cpu));
	assert_string_equal(api->model_arithmetic(other), "q8-1-emu");
	for (uint32_t round = 0; round < 10; round++)
	{
		one_row		a(d, round % 2 ? on_cpu : on_cuda, 0),
					b(d, round % 2 ? on_cuda : on_cpu, 1),
					c(d, on_cpu, 2);

		a.token = b.token = round;
		assert_true(api->step_submit(d.backend, &a.plan, &a.result, &err));
		assert_true(api->step_submit(d.backend, &b.plan, &b.result, &err));
		assert_false(api->step_submit(d.backend, &c.plan, &c.result, &err));
		assert_ptr_equal(d.wait(&failed, &err), &a.result);
		assert_false(failed);
		assert_ptr_equal(d.wait(&failed, &err), &b.result);
		assert_false(failed);
		assert_int_equal(a.sampled, b.sampled);	/* f32 has the same bits on both */
	}
	api->model_unload(d.backend, on_cpu);
	api->model_unload(d.backend, on_cuda);
	api->model_unload(d.backend, other);
}

/* Slots of the devices' own choice. */
static void
test_slots(void **)
{
	const uint64_t gb = (uint64_t) 1 << 30;
	uint32_t	usual;

	{
		devices		d("auto", 0);

		usual = api->slots(d.backend, 0);
		assert_true(usual > 0);
		assert_int_equal(api->slots(d.backend, 1), g2d_suited_slots(96 << 20));
		assert_non_null(strstr(logged.c_str(), "up to 256 sequences at once"));
	}
	{
		devices		d("cpu", 0);

		assert_int_equal(api->slots(d.backend, 0), usual);	/* a device changes nothing there */
		assert_int_equal(api->slots(d.backend, 1), 0);
	}
	assert_int_equal(g2d_suited_slots(0), 256);
	assert_int_equal(g2d_suited_slots(4 * gb), 512);
	assert_int_equal(g2d_suited_slots(8 * gb), 1024);
	assert_int_equal(g2d_suited_slots(110 * gb), 1024);
}

/* What the device cannot run: on the CPU under auto, an error under cuda. */
static void
test_places(void **)
{
	model		q4(G2_FORMAT_Q4, 64),
				odd(G2_FORMAT_F32, 48),
				adapted(G2_FORMAT_F32, 64);
	std::vector<g2_layer_adapter> layers(adapted.w.arch.n_layer);
	g2_error	err = {};

	adapted.w.adapter = layers.data();
	adapted.w.adapter_rank = 1;
	{
		devices		d("auto");
		g2_backend_model *m = d.load(q4, "auto"),
				   *n = d.load(odd, "auto"),
				   *o = d.load(adapted, "auto");

		assert_string_equal(api->device(m), "cpu");
		assert_string_equal(api->device(n), "cpu");
		assert_string_equal(api->device(o), "cpu");
		assert_true(d.refused(adapted, "cuda", &err));
		assert_int_equal(err.code, G2_E_UNSUPPORTED);
		assert_non_null(strstr(err.message, "an adapter beside its base"));
		assert_non_null(strstr(err.hint, "merge"));
		api->model_unload(d.backend, o);
		assert_non_null(strstr(logged.c_str(), "a model runs on the CPU: model graph not supported by "
							   "the CUDA back end: format q4"));
		assert_true(d.refused(q4, "cuda", &err));
		assert_int_equal(err.code, G2_E_UNSUPPORTED);
		api->model_unload(d.backend, m);
		api->model_unload(d.backend, n);
	}
	{
		devices		d("cuda");

		assert_true(d.refused(odd, "auto", &err));
		assert_int_equal(err.code, G2_E_UNSUPPORTED);
		api->model_unload(d.backend, d.load(odd, "cpu"));
	}
	{
		devices		d("cuda:5");

		assert_true(d.refused(q4, "auto", &err));
		assert_non_null(strstr(err.message, "there is no device 5"));
		assert_non_null(strstr(err.hint, "one device"));
	}
	{
		devices		d("cpu");
		g2_backend_device about;

		assert_string_equal(logged.c_str(), "");
		api->describe(d.backend, &about);
		assert_null(about.name);
		assert_true(d.refused(odd, "cuda", &err));
		assert_non_null(strstr(err.message, "gpt2.device is \"cpu\""));
	}
}

/* Where blocks of another model that are held leave no room for weights, auto is the CPU. */
static void
test_room(void **)
{
	model		q8(G2_FORMAT_Q8, 64);
	devices		d("auto");
	g2_backend_device about;
	g2_backend_model *first,
			   *second;
	g2_error	err = {};
	uint64_t	bytes,
				left;
	size_t		slab_bytes;
	uint32_t	n = 0;

	api->describe(d.backend, &about);
	bytes = about.free_bytes;
	assert_true(api->model_load(d.backend, &q8.w, &first, &err));
	api->describe(d.backend, &about);
	bytes -= about.free_bytes;	/* of a model */
	left = about.free_bytes;
	assert_true(api->kv_reserve(first, 96 * api->kv_slab(first, &slab_bytes), &err));
	for (; left >= bytes; left -= slab_bytes)
		assert_true(api->kv_map(first, n++));
	second = d.load(q8, "auto");
	assert_string_equal(api->device(first), "cuda");
	assert_string_equal(api->device(second), "cpu");
	assert_int_equal(api->kv_slab(second, &slab_bytes), 1);
	assert_int_equal(api->kv_spare(second), UINT32_MAX);
	assert_non_null(strstr(logged.c_str(), "a model runs on the CPU: not enough memory on the CUDA "
						   "device for the model's weights"));
	assert_non_null(strstr(logged.c_str(), "and texts in progress hold"));
	assert_true(d.refused(q8, "cuda", &err));
	assert_int_equal(err.code, G2_E_MEMORY);
	api->model_unload(d.backend, second);
	api->kv_unmap(first, --n);
	api->kv_unmap(first, --n);	/* for blocks */
	second = d.load(q8, "auto");
	assert_string_equal(api->device(second), "cuda");
	api->model_unload(d.backend, second);
	api->model_unload(d.backend, first);
	api->describe(d.backend, &about);
	assert_true(about.free_bytes >= left + bytes);
}

/* Opens the device, and loses it in the midst of a plan. */
static void
lose_device()
{
	model		q8(G2_FORMAT_Q8, 64);
	devices		d("auto");
	g2_backend_model *m = d.load(q8, "auto");
	one_row		a(d, m, 0);
	bool		failed;
	g2_error	err = {};
	void		(*lose) (long);

	/* The library's own copy of the emulation. */
	*reinterpret_cast<void **>(&lose) = dlsym(dlopen("gpt2_cuda.so", RTLD_NOW | RTLD_NOLOAD),
											  "emu_lose_device_at");
	assert_non_null(lose);
	assert_false(g2_devices_lost(d.backend));
	lose(1);
	assert_true(api->step_submit(d.backend, &a.plan, &a.result, &err));
	assert_ptr_equal(d.wait(&failed, &err), &a.result);
	assert_true(failed);
	assert_int_equal(err.code, G2_E_SYSTEM);
	assert_true(g2_devices_lost(d.backend));
	lose(0);
	api->model_unload(d.backend, m);
}

/* A device that is lost while a model is filled, with no plan that would tell. */
static void
test_lost_at_load(void **)
{
	model		q8(G2_FORMAT_Q8, 64);
	devices		d("auto");
	g2_backend_model *m;
	g2_error	err = {};
	void		(*lose) (long);

	*reinterpret_cast<void **>(&lose) = dlsym(dlopen("gpt2_cuda.so", RTLD_NOW | RTLD_NOLOAD),
											  "emu_lose_device_at");
	assert_non_null(lose);
	lose(1);
	assert_true(api->model_load(d.backend, &q8.w, &m, &err));
	assert_false(g2_devices_lost(d.backend));
	assert_false(api->model_fill(m, &q8.w, &err));
	assert_int_equal(err.code, G2_E_SYSTEM);
	assert_true(g2_devices_lost(d.backend));
	assert_true(d.refused(q8, "auto", &err));	/* not on the CPU instead: the engine ends */
	assert_int_equal(err.code, G2_E_SYSTEM);
	lose(0);
	api->model_unload(d.backend, m);
}

/* After three failures "auto" is the CPU; who insists gets the device. */
static void
test_lost(void **)
{
	char		path[] = "/tmp/test_cuda_devices.XXXXXX";
	const int	fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	failures = path;
	for (uint32_t n = 1; n <= G2_DEVICE_FAILURES_MOST; n++)
	{
		lose_device();
		assert_int_equal(g2_device_failures(path), n);
	}
	{
		devices		d("auto");

		assert_non_null(strstr(logged.c_str(), "it has failed 3 times in 10 minutes; computing on the "
							   "CPU"));
	}
	{
		devices		d("cuda");

		assert_non_null(strstr(logged.c_str(), "computing on emulated"));
	}
	g2_device_failures_note(path);
	assert_int_equal(g2_device_failures(path), G2_DEVICE_FAILURES_MOST);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(g2_device_failures(path), 0);
	failures = NULL;
}

static void
test_names(void **)
{
	uint32_t	index = 9;

	for (const char *good : {"auto", "cpu", "cuda", "cuda:0", "cuda:63"})
		assert_true(g2_device_name_check(good, &index));
	assert_int_equal(index, 63);
	for (const char *bad : {"", "gpu", "cuda:", "cuda:x", "cuda:64", "cuda:1234", "cuda0", "CUDA"})
		assert_false(g2_device_name_check(bad, NULL));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_both),
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_lost_at_load),
		cmocka_unit_test(test_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
