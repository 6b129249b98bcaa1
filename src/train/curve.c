/*
 * curve.c: the losses of a training as it goes on.
 */
#include "curve.h"

#include "place.h"
#include "protocol_train.h"

bool
g2t_curve_add(g2t_curve *curve, const g2t_point *point, g2_error *err)
{
	if (curve->n == curve->cap)
	{
		uint32_t	cap = curve->cap ? 2 * curve->cap : 256;
		g2t_point  *more = g2_realloc_array(curve->point, cap, sizeof *more);

		if (!more)
			return g2_fail_memory(err, cap * sizeof *more);
		curve->point = more;
		curve->cap = cap;
	}
	curve->point[curve->n++] = *point;
	return true;
}

bool
g2t_curve_write(const g2t_curve *curve, const char *folder, g2_error *err)
{
	g2_buf		b = {0};
	bool		ok;

	g2_buf_printf(&b, "step,loss,held_out_loss,learning_rate,tokens,seconds\n");
	for (uint32_t i = 0; i < curve->n; i++)
	{
		const g2t_point *p = &curve->point[i];

		g2_buf_printf(&b, "%u,%.6f,", p->step, p->loss);
		if (p->evaluated)
			g2_buf_printf(&b, "%.6f", p->held_out_loss);
		g2_buf_printf(&b, ",%.6g,%llu,%.1f\n", p->rate, (unsigned long long) p->tokens,
					  p->seconds);
	}
	ok = g2t_write_text(folder, G2_TRAIN_LOG_FILE, &b, err);
	g2_buf_free(&b);
	return ok;
}
