/*
 * vecmath_body.h: exp, log, tanh, erf and the activations, written once for every width.
 *
 * Included with VM_T (the type: float, or 16 lanes), VM_FN (how functions are declared) and
 * VM(name), which names the primitives set1 add sub mul div fma min max abs copysign lt_select
 * exponent_add log_split, and the functions defined here.  All primitives round correctly, lane by
 * lane, so that every width gives the same bits:
 *     min(a, b) = a < b ? a : b;  max(a, b) = a > b ? a : b    (the second operand when unordered)
 *     lt_select(a, b, x, y) = a < b ? x : y
 *     exponent_add(p, t) = the float whose bits are bits(p) + (bits(t) << 23)
 *     log_split(x, &e): x = m 2^e, m in [sqrt(1/2), sqrt(2)); returns m
 * Fused multiply-add stands only where fma is written.
 *
 * Coefficients: minimax (Remez), rounded to float; largest errors in the comment of each function
 * are those of an exhaustive or dense run against double (test_vecmath.c).
 */

#define C(x) VM(set1)(x)
#define FMA(a, b, c) VM(fma)(a, b, c)

/*
 * e^x, at most 1 ulp.  Below -87.33654 (results under 2^-126) exactly 0, above 88.72283 +inf.
 * x = n ln 2 + r, e^r = 1 + r + r^2 q(r); n stands in the low bits of t after adding 1.5 2^23.
 */
VM_FN VM_T
VM(exp)(VM_T x)
{
	VM_T		c = VM(max)(C(-104.0f), VM(min)(C(89.0f), x)),	/* NaN stays NaN */
				t = FMA(c, C(0x1.715476p+0f), C(12582912.0f)),
				n = VM(sub)(t, C(12582912.0f)),
				r = FMA(n, C(0x1.05c610p-29f), FMA(n, C(-0x1.62e430p-1f), c)),
				q = C(0x1.6a2384p-10f),
				y;

	q = FMA(q, r, C(0x1.123a6ap-7f));
	q = FMA(q, r, C(0x1.5558f4p-5f));
	q = FMA(q, r, C(0x1.555490p-3f));
	q = FMA(q, r, C(0x1.fffffcp-2f));
	y = VM(add)(FMA(VM(mul)(r, r), q, r), C(1.0f));
	y = VM(exponent_add)(y, t);
	y = FMA(c, C(0.0f), y);		/* NaN in, NaN out; nothing else changes */
	y = VM(lt_select)(x, C(-0x1.5d589ep+6f), C(0.0f), y);
	return VM(lt_select)(C(0x1.62e42ep+6f), x, C(__builtin_inff()), y);
}

/* ln x, at most 1 ulp; 0 gives -inf, a negative number NaN. */
VM_FN VM_T
VM(log)(VM_T x)
{
	VM_T		tiny = C(0x1p-126f),
				e,
				m = VM(log_split)(VM(lt_select)(x, tiny, VM(mul)(x, C(0x1p23f)), x), &e),
				f = VM(sub)(m, C(1.0f)),
				q = C(0x1.1b4126p-4f),
				y;

	e = VM(add)(e, VM(lt_select)(x, tiny, C(-23.0f), C(0.0f)));
	q = FMA(q, f, C(-0x1.e2e8ecp-4f));
	q = FMA(q, f, C(0x1.e650fap-4f));
	q = FMA(q, f, C(-0x1.fb4354p-4f));
	q = FMA(q, f, C(0x1.2332bcp-3f));
	q = FMA(q, f, C(-0x1.5562e2p-3f));
	q = FMA(q, f, C(0x1.99a546p-3f));
	q = FMA(q, f, C(-0x1.ffffeep-3f));
	q = FMA(q, f, C(0x1.555546p-2f));
	y = VM(mul)(VM(mul)(f, f), FMA(q, f, C(-0.5f)));
	y = FMA(e, C(-0x1.05c610p-29f), y);
	y = FMA(e, C(0x1.62e430p-1f), VM(add)(y, f));
	y = FMA(VM(min)(C(0x1.fffffep+127f), x), C(0.0f), y);	/* NaN */
	y = VM(lt_select)(x, C(0x1p-149f), C(-__builtin_inff()), y);
	y = VM(lt_select)(x, C(0.0f), C(__builtin_nanf("")), y);
	return VM(lt_select)(C(0x1.fffffep+127f), x, x, y);
}

/* tanh x, at most 2 ulp: a polynomial below 0.55, 1 - 2 / (e^2|x| + 1) above. */
VM_FN VM_T
VM(tanh)(VM_T x)
{
	VM_T		a = VM(abs)(x),
				z = VM(mul)(x, x),
				p = C(-0x1.986590p-8f),
				small,
				big;

	p = FMA(p, z, C(0x1.58c7c4p-6f));
	p = FMA(p, z, C(-0x1.b91b78p-5f));
	p = FMA(p, z, C(0x1.110ce0p-3f));
	p = FMA(p, z, C(-0x1.55554ap-2f));
	small = FMA(VM(mul)(x, z), p, x);
	big = VM(add)(VM(exp)(VM(add)(a, a)), C(1.0f));
	big = VM(sub)(C(1.0f), VM(div)(C(2.0f), big));
	return VM(copysign)(VM(lt_select)(a, C(0.55f), small, big), x);
}

/* erf x, at most 2 ulp: x + x p(x^2) below 0.93, 1 - e^-q(|x|) above. */
VM_FN VM_T
VM(erf)(VM_T x)
{
	VM_T		a = VM(abs)(x),
				c = VM(min)(C(3.95f), a),	/* erfc(3.95) < 2^-25 */
				z = VM(mul)(x, x),
				p = C(0x1.5d476ap-14f),
				q = C(-0x1.5d723ep-16f),
				small,
				big;

	p = FMA(p, z, C(-0x1.aa6a14p-11f));
	p = FMA(p, z, C(0x1.54cde4p-8f));
	p = FMA(p, z, C(-0x1.b80f50p-6f));
	p = FMA(p, z, C(0x1.ce2e14p-4f));
	p = FMA(p, z, C(-0x1.812744p-2f));
	p = FMA(p, z, C(0x1.06eba8p-3f));
	small = FMA(x, p, x);
	q = FMA(q, c, C(0x1.c45952p-12f));
	q = FMA(q, c, C(-0x1.106262p-8f));
	q = FMA(q, c, C(0x1.9aebbap-6f));
	q = FMA(q, c, C(-0x1.bb454cp-4f));
	q = FMA(q, c, C(-0x1.444d1ep-1f));
	q = FMA(q, c, C(-0x1.212626p+0f));
	q = FMA(q, c, C(0x1.62d910p-13f));
	big = VM(sub)(C(1.0f), VM(exp)(q));
	return VM(copysign)(VM(lt_select)(a, C(0.93f), small, big), x);
}

/* 0.5 x (1 + tanh u) = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3). */
VM_FN VM_T
VM(gelu_new)(VM_T x)
{
	VM_T		w = FMA(VM(mul)(x, x), C(-0.0713548162726f), C(-1.59576912161f));

	return VM(div)(x, VM(add)(C(1.0f), VM(exp)(VM(mul)(x, w))));
}

/* 0.5 x (1 + erf(x / sqrt 2)) */
VM_FN VM_T
VM(gelu)(VM_T x)
{
	VM_T		h = VM(mul)(x, C(0.5f));

	return FMA(h, VM(erf)(VM(mul)(x, C(0.70710678118654752f))), h);
}

VM_FN VM_T
VM(relu)(VM_T x)
{
	return VM(max)(C(0.0f), x);
}

#undef C
#undef FMA
