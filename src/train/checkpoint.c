/*
 * checkpoint.c: where a training stands, on disk.
 *
 * The file's name in its directory stands for the options, so a checkpoint only says how large its
 * arrays are.  It is whole or not there (place.h).
 */
#include "checkpoint.h"

#define BEST_FILE "best"
#define MAGIC 0x31703267u
#define MAX_POINTS (1u << 20)	/* more than a curve can have */

typedef struct header
{
	uint32_t	magic;
	uint32_t	n_arrays;
	uint64_t	floats;
	uint32_t	n_points;
	uint32_t	unused;
	g2t_state	state;
} header;

static bool
write_file(const g2t_place *place, const char *file, const header *h, const g2t_point *points,
		   const float *const arrays[], g2_error *err)
{
	g2t_writer	w;
	bool		ok;

	ok = g2t_writer_open(place, file, &w, err) && g2t_write(&w, h, sizeof *h, err) &&
		g2t_write(&w, points, h->n_points * sizeof *points, err);
	for (uint32_t i = 0; ok && i < h->n_arrays; i++)
		ok = g2t_write(&w, arrays[i], h->floats * sizeof(float), err);
	ok = ok && g2t_writer_finish(&w, err);
	g2t_writer_close(&w);
	return ok;
}

static bool
read_points(g2t_reader *r, uint32_t n, g2t_curve *curve, g2_error *err)
{
	curve->n = 0;
	for (uint32_t i = 0; i < n; i++)
	{
		g2t_point	point;

		if (!g2t_read(r, &point, sizeof point, err) || !g2t_curve_add(curve, &point, err))
			return false;
	}
	return true;
}

static bool
read_file(const g2t_place *place, const char *file, header *h, g2t_curve *curve,
		  float *const arrays[], uint32_t n_arrays, uint64_t floats, bool *found, g2_error *err)
{
	g2t_reader	r;
	bool		ok;

	*found = g2t_place_has(place, file);
	if (!*found)
		return true;
	if (!g2t_reader_open(place, file, &r, err))
		return false;
	ok = g2t_read(&r, h, sizeof *h, err);
	if (ok && (h->magic != MAGIC || h->n_arrays != n_arrays || h->floats != floats ||
			   h->n_points > MAX_POINTS))
	{
		g2_fail(err, G2_E_IO, "\"%s\" is damaged or of another version", r.path);
		ok = g2_fail_hint(err, "Remove the directory it is in, and train from the beginning.");
	}
	ok = ok && read_points(&r, h->n_points, curve, err);
	for (uint32_t i = 0; ok && i < n_arrays; i++)
		ok = g2t_read(&r, arrays[i], floats * sizeof(float), err);
	g2t_reader_close(&r);
	return ok;
}

/* Weights and moments. */
static uint32_t
n_arrays(const g2t_parameters *p)
{
	return p->v ? 3 : 2;
}

bool
g2t_checkpoint_write(const g2t_place *place, const g2t_state *state, const g2t_curve *curve,
					 const g2t_parameters *p, g2_error *err)
{
	const float *const arrays[] = {p->w, p->m, p->v};
	header		h = {.magic = MAGIC, .n_arrays = n_arrays(p), .floats = p->floats,
	.n_points = curve->n, .state = *state};

	return write_file(place, G2T_CHECKPOINT_FILE, &h, curve->point, arrays, err);
}

bool
g2t_checkpoint_read(const g2t_place *place, g2t_state *state, g2t_curve *curve, g2t_parameters *p,
					bool *found, g2_error *err)
{
	float	   *const arrays[] = {p->w, p->m, p->v};
	header		h;

	if (!read_file(place, G2T_CHECKPOINT_FILE, &h, curve, arrays, n_arrays(p), p->floats, found, err))
		return false;
	if (*found)
		*state = h.state;
	return true;
}

bool
g2t_best_write(const g2t_place *place, uint32_t step, double loss, const g2t_parameters *p,
			   g2_error *err)
{
	const float *const arrays[] = {p->w};
	header		h = {.magic = MAGIC, .n_arrays = 1, .floats = p->floats,
	.state = {.step = step, .best_loss = loss}};

	return write_file(place, BEST_FILE, &h, NULL, arrays, err);
}

bool
g2t_best_read(const g2t_place *place, uint32_t *step, double *loss, g2t_parameters *p, bool *found,
			  g2_error *err)
{
	float	   *const arrays[] = {p->w};
	g2t_curve	none = {0};
	header		h;

	if (!read_file(place, BEST_FILE, &h, &none, arrays, 1, p->floats, found, err))
		return false;
	if (*found)
	{
		*step = h.state.step;
		*loss = h.state.best_loss;
	}
	return true;
}
