/*
 * test_protocol_io.c: frames, and what a writer does without memory.
 */
#include "protocol_fixture.h"

static void
test_frames(void **state)
{
	g2_writer	w = writer();
	size_t		begin;
	g2_frame	frame;
	char	   *big = calloc(1, G2_MAX_PAYLOAD);

	(void) state;
	assert_non_null(big);
	assert_int_equal(sizeof(g2_frame), 16);
	begin = g2_frame_begin(&w, G2_MSG_TEXT, 99);
	g2_put(&w, "abc", 3);
	assert_true(g2_frame_end(&w, begin));
	memcpy(&frame, w.data, sizeof frame);
	assert_int_equal(frame.length, 3);
	assert_int_equal(frame.type, G2_MSG_TEXT);
	assert_int_equal(frame.id, 99);
	assert_int_equal(frame.reserved, 0);
	/* The largest goes, one byte more is taken off again. */
	begin = g2_frame_begin(&w, G2_MSG_TEXT, 1);
	g2_put(&w, big, G2_MAX_PAYLOAD);
	assert_true(g2_frame_end(&w, begin));
	w.len = begin;
	begin = g2_frame_begin(&w, G2_MSG_TEXT, 1);
	g2_put(&w, big, G2_MAX_PAYLOAD);
	g2_put_u8(&w, 0);
	assert_false(g2_frame_end(&w, begin));
	assert_int_equal(w.len, begin);
	assert_false(w.failed);
	free(big);
	free(w.data);
}

static int	grows_left;

static void *
failing_grow(void *data, size_t bytes)
{
	return grows_left-- > 0 ? realloc(data, bytes) : NULL;
}

static void
test_no_memory(void **state)
{
	(void) state;
	for (int n = 0; n < 8; n++)
	{
		g2_writer	w = {.grow = failing_grow};
		size_t		begin;
		bool		ok;

		grows_left = n;
		begin = g2_frame_begin(&w, G2_MSG_TEXT, 1);
		for (int i = 0; i < 1000; i++)
			g2_put_string(&w, "some words");
		ok = g2_frame_end(&w, begin);
		assert_int_equal(ok, !w.failed);
		assert_int_equal(ok, n >= 6);	/* 512 << 5 holds 14016 bytes */
		free(w.data);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames), cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
