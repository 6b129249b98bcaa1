/*
 * test_kv_random.c: block tables under random prepare, share, publish and release, against a model of
 * who holds what: contents are followed through the fake caches.
 */
#include "kv_fixture.h"

#define TABLES 12
#define POSITIONS (8 * G2_BLOCK)

/* ---- random work against what each table should read ---- */

static uint64_t random_state = 1;

static uint32_t
random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (random_state >> 33) % n;
}

typedef struct shadow
{
	uint32_t	value[POSITIONS];
	uint32_t	len;			/* positions written */
} shadow;

/* What was published, also when nobody holds it any more. */
static shadow ghosts[MODELS][32];
static uint32_t n_adopted,
			n_evicted;

static g2_prefix
prefix_of(const shadow *s, uint32_t block)
{
	g2_prefix	prefix = {{0}};
	uint64_t	h = 1;

	for (uint32_t p = 0; p < (block + 1) * G2_BLOCK; p++)
		h = (h ^ s->value[p]) * 0x100000001B3u;
	memcpy(prefix.hash, &h, sizeof h);
	return prefix;
}

/* The full blocks of a table, but not the last position, which may be written again. */
static void
publish(g2_kv *kv, const g2_block_table *table, const shadow *s)
{
	uint32_t	n = s->len > 0 ? (s->len - 1) / G2_BLOCK : 0;
	shadow	   *ghost = &ghosts[kv->model - models][random_below(G2_LENGTH(ghosts[0]))];

	if (n == 0)
		return;
	*ghost = *s;
	ghost->len = n * G2_BLOCK;
	for (uint32_t i = 0; i < n; i++)
	{
		g2_prefix	prefix = prefix_of(s, i);

		g2_kv_publish(kv, table->blocks[i], &prefix);
		assert_int_not_equal(g2_kv_find(kv, &prefix), G2_NO_BLOCK);
	}
}

/* A new owner of what was published, as far as it is still there. */
static void
adopt(g2_kv *kv, g2_block_table *table, shadow *s)
{
	const shadow *ghost = &ghosts[kv->model - models][random_below(G2_LENGTH(ghosts[0]))];
	g2_error	err;

	for (uint32_t i = 0; i < ghost->len / G2_BLOCK; i++)
	{
		g2_prefix	prefix = prefix_of(ghost, i);
		uint32_t	block = g2_kv_find(kv, &prefix);

		if (block == G2_NO_BLOCK)
		{
			n_evicted++;
			return;
		}
		assert_true(g2_kv_adopt(kv, table, block, &err));
		memcpy(s->value + i * G2_BLOCK, ghost->value + i * G2_BLOCK, sizeof models[0].cache[0]);
		s->len = (i + 1) * G2_BLOCK;
		n_adopted++;
	}
}

static void
random_step(g2_kv *kv, g2_block_table *t, shadow *s)
{
	uint32_t	a = random_below(TABLES),
				b = random_below(TABLES);
	g2_error	err;

	switch (random_below(10))
	{
		case 0:
			g2_kv_release(kv, &t[a]);
			s[a].len = 0;
			break;
		case 1:
			if (t[a].n > 0 || a == b)
				break;
			assert_true(g2_kv_share(kv, &t[a], &t[b], t[b].n, &err));
			s[a] = s[b];
			break;
		case 2:
			publish(kv, &t[a], &s[a]);
			break;
		case 3:
			if (t[a].n == 0)
				adopt(kv, &t[a], &s[a]);
			break;
		default:
			{
				uint32_t	from = s[a].len % G2_BLOCK ? s[a].len - random_below(2) :
							s[a].len,
							to = from + random_below(40);

				if (to >= POSITIONS)
					break;
				if (g2_kv_prepare(kv, &t[a], from, to, &err) != G2_KV_DONE)
					break;
				for (uint32_t p = from; p <= to; p++)
				{
					s[a].value[p] = 1 + random_below(1u << 30);
					kv->model->cache[t[a].blocks[p / G2_BLOCK]][p % G2_BLOCK] = s[a].value[p];
				}
				s[a].len = to + 1;
			}
	}
}

/* Models that share a pool; each has a step in turn. */
static void
random_work(g2_kv *kv, uint32_t n_models, int steps)
{
	static g2_block_table t[MODELS][TABLES];
	static shadow s[MODELS][TABLES];

	memset(s, 0, sizeof s);
	memset(ghosts, 0, sizeof ghosts);
	n_copies = n_adopted = n_evicted = 0;
	for (int step = 0; step < steps; step++)
	{
		const uint32_t m = (uint32_t) step % n_models;

		random_step(&kv[m], t[m], s[m]);
		for (uint32_t i = 0; i < n_models; i++)
			check(&kv[i], t[i], TABLES);
		for (uint32_t i = 0; i < n_models * TABLES; i++)
		{
			const g2_block_table *table = &t[i / TABLES][i % TABLES];
			const shadow *want = &s[i / TABLES][i % TABLES];

			for (uint32_t p = 0; p < want->len; p++)
				if (models[i / TABLES].cache[table->blocks[p / G2_BLOCK]][p % G2_BLOCK] !=
					want->value[p])
					fail_msg("step %d: table %u reads a stranger's value at %u", step, i, p);
		}
	}
	assert_true(n_copies > 100 && n_adopted > 100 && n_evicted > 100);
	for (uint32_t i = 0; i < n_models * TABLES; i++)
		g2_kv_release(&kv[i / TABLES], &t[i / TABLES][i % TABLES]);
	for (uint32_t i = 0; i < n_models; i++)
	{
		check(&kv[i], t[i], TABLES);
		assert_int_equal(kv[i].n_held, 0);
		g2_kv_close(&kv[i]);
	}
}

static void
test_random(void **state)
{
	g2_kv		kv;

	(void) state;
	open_kv(&kv, BLOCKS);
	random_work(&kv, 1, 20000);
}

static void
test_random_slabs(void **state)
{
	g2_kv		kv[MODELS];

	(void) state;
	open_slabs(kv, MODELS, 27, 16 * 4500);	/* of 16 that each might have */
	assert_int_equal(kv[0].n_blocks, BLOCKS);
	random_work(kv, MODELS, 40000);
	assert_int_equal(n_spare, 27);
	open_slabs(kv, MODELS, 100, 16 * 4500);	/* the setting's limit, not the device's */
	random_work(kv, MODELS, 40000);
	assert_int_equal(n_spare, 100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_random_slabs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
