/*
 * layout.h: the tensors of a graph: what Hugging Face calls them and their shapes there, and where
 * each stands in a pack's weights section.  A pure function of the g2_arch and the format, so that
 * a pack holds no offsets of tensors that would have to be believed.
 */
#ifndef G2_LAYOUT_H
#define G2_LAYOUT_H

#include "util.h"
#include "weights.h"

#define G2_LAYOUT_ID 4			/* raised when anything here, or the quantizers, change
								 * what a pack holds */
#define G2_LAYOUT_ALIGN 64

typedef enum g2_store
{
	G2_STORE_ROWS,				/* as it is: gains, positions */
	G2_STORE_BIAS,				/* a vector padded with zeros to whole panels */
	G2_STORE_PANELS,			/* Conv1D [k][n] -> panels */
	G2_STORE_PANELS_T			/* rows [n][k] -> panels: embedding, head */
} g2_store;

#define G2_NO_NORM UINT32_MAX

typedef struct g2_layout_tensor
{
	char		name[48];		/* without "transformer." */
	g2_store	store;
	uint32_t	rank;			/* in the source */
	uint64_t	rows;			/* 1 for a vector */
	uint64_t	cols;
	g2_format	format;			/* of panels; of all else f32 */
	uint32_t	norm;			/* index of the gain of the norm whose output is multiplied by this,
								 * its bias the next; G2_NO_NORM */
	uint64_t	offset;			/* in the weights section */
	uint64_t	bytes;			/* with the padding of panels */
} g2_layout_tensor;

typedef struct g2_layout
{
	g2_layout_tensor *tensor;
	uint32_t	n;
	uint64_t	bytes;			/* of the section */
} g2_layout;

/* The arch has passed g2_arch_check.  Free with g2_layout_free. */
extern bool g2_layout_make(const g2_arch *arch, g2_format format, g2_layout *layout,
						   g2_error *err);
extern void g2_layout_free(g2_layout *layout);

/* Fills weights (arch, format and layers[n_layer] are set) with pointers into a section. */
extern void g2_layout_bind(const g2_layout *layout, const void *section, g2_weights *weights);

#endif							/* G2_LAYOUT_H */
