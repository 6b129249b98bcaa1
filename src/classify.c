/*
 * classify.c: gpt_classify (labels, or an enum), gpt_label_probs, gpt_label_prob, gpt_filter.
 *
 * A label's score is the mean log-likelihood of its tokens behind the template, minus, unless
 * `calibrate` is false, the same with "N/A" as the text (contextual calibration, Zhao et al. 2021,
 * arXiv 2102.09690): a model prefers some labels whatever the text is.  The scores' softmax are the
 * labels' probabilities.  Both requests are in flight together; that for "N/A" is the same for all
 * texts, so the engine's result cache answers it from the second time on.
 */
#include "compat.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "batch_functions.h"
#include "encoding.h"
#include "failed_calls.h"
#include "result.h"
#include "score.h"

PG_FUNCTION_INFO_V1(gpt2_classify);
PG_FUNCTION_INFO_V1(gpt2_classify_enum);
PG_FUNCTION_INFO_V1(gpt2_label_probs);
PG_FUNCTION_INFO_V1(gpt2_label_prob);
PG_FUNCTION_INFO_V1(gpt2_filter);

#define NO_CONTENT "N/A"
#define PROB_COLUMNS 3

/* Labels and what the model makes of them. */
typedef struct Labels
{
	int			n;
	const char *names[G2_MAX_LABELS];	/* in the database encoding */
	g2_span		texts[G2_MAX_LABELS];	/* the same in UTF-8 */
	double		logprob[G2_MAX_LABELS]; /* of all tokens of the label */
	double		prob[G2_MAX_LABELS];
} Labels;

/* A row's call: what is asked, and the answer. */
typedef struct Classification
{
	Labels		labels;
	double		min_prob;
	int			n_wires;
	g2_score	wires[GPT2_MAX_SCORES];	/* the text's, and where it is calibrated that of "N/A" */
} Classification;

/* ---- labels ---- */

/* What is wrong with a label is wrong for all rows: it is raised before gpt2_row_begins. */
static void
add_label(Labels *labels, const char *name)
{
	g2_span		utf8 = gpt2_to_utf8(name, strlen(name), "labels");

	if (*name == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("labels contains an empty string")));
	for (int i = 0; i < labels->n; i++)
		if (strcmp(labels->names[i], name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("labels contains \"%s\" twice", name)));
	if (utf8.len > G2_MAX_LABEL_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("labels contains a string that is too long"),
				 errdetail("It has %u bytes of UTF-8; the limit is %d.",
						   utf8.len, G2_MAX_LABEL_BYTES),
				 errhint("Give labels short names.")));
	labels->texts[labels->n] = utf8;
	labels->names[labels->n++] = name;
}

static void
check_count(int n)
{
	if (n > G2_MAX_LABELS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("there are too many labels"),
				 errdetail("There are %d; the limit is %d.", n, G2_MAX_LABELS),
				 errhint("Classify in two steps: groups of labels first.")));
}

static void
read_labels(NullableDatum arg, Labels *labels)
{
	ArrayType  *array;
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	labels->n = 0;
	if (arg.isnull)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("labels must not be null")));
	array = DatumGetArrayTypeP(arg.value);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("labels must be a one-dimensional array")));
	count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	check_count(count);
	if (count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("labels must not be empty")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("labels contains a null element")));
		add_label(labels, TextDatumGetCString(elements[i]));
	}
}

typedef struct EnumLabel
{
	float4		order;
	const char *name;
} EnumLabel;

static int
compare_order(const void *a, const void *b)
{
	float4		x = ((const EnumLabel *) a)->order,
				y = ((const EnumLabel *) b)->order;

	return (x > y) - (x < y);
}

/* In the enum's order. */
static void
read_enum(Oid type, Labels *labels)
{
	CatCList   *list = SearchSysCacheList1(ENUMTYPOIDNAME, ObjectIdGetDatum(type));
	EnumLabel  *sorted = palloc(Max(list->n_members, 1) * sizeof(EnumLabel));
	int			n = list->n_members;

	for (int i = 0; i < n; i++)
	{
		Form_pg_enum form = (Form_pg_enum) GETSTRUCT(&list->members[i]->tuple);

		sorted[i] = (EnumLabel) {form->enumsortorder, pstrdup(NameStr(form->enumlabel))};
	}
	ReleaseCatCacheList(list);
	check_count(n);
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("type %s has no values", format_type_be(type))));
	qsort(sorted, (size_t) n, sizeof(EnumLabel), compare_order);
	labels->n = 0;
	for (int i = 0; i < n; i++)
		add_label(labels, sorted[i].name);
	pfree(sorted);
}

/* ---- scores ---- */

/* Adds weight times each label's mean to score; with logprob, keeps the sums. */
static void
add_scores(FunctionCallInfo fcinfo, Gpt2Request *request, g2_span model, int n, double weight,
		   double *score, double *logprob)
{
	Gpt2Answer	answer;

	gpt2_scores_begin(request, (uint32) n, &answer);
	for (int i = 0; i < n; i++)
	{
		g2_score_sum sum = gpt2_score_next(&answer);

		score[i] += sum.n > 0 ? weight * sum.logprob / sum.n : 0;
		if (logprob)
			logprob[i] = sum.logprob;
	}
	gpt2_answer_end(fcinfo, &answer, model);
}

static void
softmax(const double *score, int n, double *prob)
{
	double		max = score[0],
				sum = 0;

	for (int i = 1; i < n; i++)
		max = Max(max, score[i]);
	for (int i = 0; i < n; i++)
		sum += prob[i] = exp(score[i] - max);
	for (int i = 0; i < n; i++)
		prob[i] /= sum;
}

/* Fills the labels' log-likelihoods and probabilities. */
static void
score_labels(FunctionCallInfo fcinfo, Classification *c)
{
	double		score[G2_MAX_LABELS] = {0};
	Labels	   *labels = &c->labels;
	Gpt2Request *requests[GPT2_MAX_SCORES];

	for (int i = 0; i < c->n_wires; i++)
		requests[i] = gpt2_score_send(fcinfo, &c->wires[i]);
	for (int i = 0; i < c->n_wires; i++)
		add_scores(fcinfo, requests[i], c->wires[i].model, labels->n, i == 0 ? 1.0 : -1.0, score,
				   i == 0 ? labels->logprob : NULL);
	softmax(score, labels->n, labels->prob);
}

/* Arguments content, labels (already read) or condition, model, options.  False: there is nothing
 * to classify. */
static bool
prepare(FunctionCallInfo fcinfo, const char *task, g2_span condition, int accepts,
		Classification *c)
{
	g2_score   *wire = &c->wires[0];
	Gpt2Options options;

	gpt2_options_parse(PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3),
					   GPT2_SCORES | GPT2_ACCEPTS_TEMPLATE | GPT2_ACCEPTS_LABELS | accepts,
					   &options);
	gpt2_row_begins(fcinfo);
	gpt2_score_prepare(PG_GETARG_TEXT_PP(0), fcinfo->args[2], &options, G2_SCORE_LABELS, wire);
	wire->task = g2_span_of(task);
	wire->condition = condition;
	wire->n_labels = (uint32_t) c->labels.n;
	memcpy(wire->labels, c->labels.texts, c->labels.n * sizeof *wire->labels);
	wire->n_examples = options.n_examples;
	memcpy(wire->example_texts, options.example_texts, sizeof wire->example_texts);
	memcpy(wire->example_labels, options.example_labels, sizeof wire->example_labels);
	c->min_prob = options.has_min_prob ? options.min_prob : 0;
	if (!gpt2_has_content(wire->text))
		return false;
	c->n_wires = 1;
	if (options.calibrate)
	{
		c->wires[c->n_wires] = *wire;
		c->wires[c->n_wires++].text = g2_span_of(NO_CONTENT);
	}
	return true;
}

/* The most probable label, the first of equals; -1 where that is below min_prob. */
static int
best_label(const Classification *c)
{
	const Labels *labels = &c->labels;
	int			best = 0;

	for (int i = 1; i < labels->n; i++)
		if (labels->prob[i] > labels->prob[best])
			best = i;
	return labels->prob[best] >= c->min_prob ? best : -1;
}

/* ---- ahead of time ---- */

static bool
prepare_labels(FunctionCallInfo fcinfo, int accepts, Classification *c)
{
	if (PG_ARGISNULL(0))
		return false;
	read_labels(fcinfo->args[1], &c->labels);
	return prepare(fcinfo, "classify", g2_span_of(""), accepts, c);
}

static bool
prepare_enum(FunctionCallInfo fcinfo, Oid type, Classification *c)
{
	if (PG_ARGISNULL(0))
		return false;
	read_enum(getBaseType(type), &c->labels);
	return prepare(fcinfo, "classify", g2_span_of(""), GPT2_ACCEPTS_MIN_PROB, c);
}

static bool
prepare_filter(FunctionCallInfo fcinfo, Classification *c)
{
	static const char *const answers[] = {"yes", "no"};
	g2_span		condition;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return false;
	c->labels.n = 0;
	for (int i = 0; i < lengthof(answers); i++)
		add_label(&c->labels, answers[i]);
	condition = gpt2_text_to_utf8(PG_GETARG_TEXT_PP(1), "condition");
	if (!gpt2_has_content(condition))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("condition must not be empty")));
	return prepare(fcinfo, "filter", condition, GPT2_ACCEPTS_MIN_PROB, c);
}

static Oid
enum_type(FunctionCallInfo fcinfo)
{
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, 1);

	if (!OidIsValid(type))
		elog(ERROR, "could not determine the enum type");
	return type;
}

static int
give_wires(const Classification *c, g2_score *wires)
{
	memcpy(wires, c->wires, c->n_wires * sizeof *wires);
	return c->n_wires;
}

int
gpt2_classify_prepare(FunctionCallInfo fcinfo, g2_score *wires)
{
	Classification c;

	return prepare_labels(fcinfo, GPT2_ACCEPTS_MIN_PROB, &c) ? give_wires(&c, wires) : 0;
}

int
gpt2_classify_enum_prepare(FunctionCallInfo fcinfo, g2_score *wires)
{
	Classification c;

	return prepare_enum(fcinfo, enum_type(fcinfo), &c) ? give_wires(&c, wires) : 0;
}

int
gpt2_label_prob_prepare(FunctionCallInfo fcinfo, g2_score *wires)
{
	Classification c;

	return prepare_labels(fcinfo, 0, &c) ? give_wires(&c, wires) : 0;
}

int
gpt2_filter_prepare(FunctionCallInfo fcinfo, g2_score *wires)
{
	Classification c;

	return prepare_filter(fcinfo, &c) ? give_wires(&c, wires) : 0;
}

/* ---- functions ---- */

/* The label of this row, or NULL. */
static const char *
choose(FunctionCallInfo fcinfo, Classification *c)
{
	int			best;

	score_labels(fcinfo, c);
	best = best_label(c);
	return best < 0 ? NULL : c->labels.names[best];
}

static Datum
classify(FunctionCallInfo fcinfo)
{
	Classification c;
	const char *chosen;

	if (!prepare_labels(fcinfo, GPT2_ACCEPTS_MIN_PROB, &c))
		PG_RETURN_NULL();
	chosen = choose(fcinfo, &c);
	if (!chosen)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(chosen));
}

Datum
gpt2_classify(PG_FUNCTION_ARGS)
{
	return gpt2_call_or_null(fcinfo, classify);
}

static Datum
classify_enum(FunctionCallInfo fcinfo)
{
	Oid			type = enum_type(fcinfo),
				input,
				io_param;
	Classification c;
	const char *chosen;

	if (!prepare_enum(fcinfo, type, &c))
		PG_RETURN_NULL();
	chosen = choose(fcinfo, &c);
	if (!chosen)
		PG_RETURN_NULL();
	getTypeInputInfo(type, &input, &io_param);
	PG_RETURN_DATUM(OidInputFunctionCall(input, unconstify(char *, chosen), io_param, -1));
}

Datum
gpt2_classify_enum(PG_FUNCTION_ARGS)
{
	return gpt2_call_or_null(fcinfo, classify_enum);
}

static Datum
label_probs(FunctionCallInfo fcinfo)
{
	TupleDesc	tupdesc;
	Tuplestorestate *rows = gpt2_begin_rows(fcinfo, &tupdesc);
	Classification c;

	if (!prepare_labels(fcinfo, 0, &c))
		return (Datum) 0;
	score_labels(fcinfo, &c);
	for (int i = 0; i < c.labels.n; i++)
	{
		Datum		values[PROB_COLUMNS];
		bool		nulls[PROB_COLUMNS] = {false};

		values[0] = CStringGetTextDatum(c.labels.names[i]);
		values[1] = Float8GetDatum(c.labels.prob[i]);
		values[2] = Float8GetDatum(c.labels.logprob[i]);
		tuplestore_putvalues(rows, tupdesc, values, nulls);
	}
	return (Datum) 0;
}

Datum
gpt2_label_probs(PG_FUNCTION_ARGS)
{
	return gpt2_call_or_null(fcinfo, label_probs);
}

/* Of the first label. */
static Datum
label_prob(FunctionCallInfo fcinfo)
{
	Classification c;

	if (!prepare_labels(fcinfo, 0, &c))
		PG_RETURN_NULL();
	score_labels(fcinfo, &c);
	PG_RETURN_FLOAT8(c.labels.prob[0]);
}

Datum
gpt2_label_prob(PG_FUNCTION_ARGS)
{
	return gpt2_call_or_null(fcinfo, label_prob);
}

static Datum
filter(FunctionCallInfo fcinfo)
{
	Classification c;
	int			best;

	if (!prepare_filter(fcinfo, &c))
		PG_RETURN_NULL();
	score_labels(fcinfo, &c);
	best = best_label(&c);
	if (best < 0)
		PG_RETURN_NULL();
	PG_RETURN_BOOL(best == 0);
}

Datum
gpt2_filter(PG_FUNCTION_ARGS)
{
	return gpt2_call_or_null(fcinfo, filter);
}
