"""The linear-time solver, compiled: Sinkhorn half-steps and Newton steps as recurrences over sorted points.

Merge both samples into N = n + m sorted points z_p, in units of ε, a y before an x of equal value. With any
function ψ of slope in [0, 1], write e^{f/ε} = w e^{−ψ} at an x and e^{g/ε} = w e^{ψ} at a y. Between
neighbours at distance d = z_{p+1} − z_p, along which ψ rises by s, put α = e^{−s} and β = e^{−(d−s)}. Then

    P_ij = w_i w_j Π α   where y_j lies below x_i,       P_ij = w_i w_j Π β   where it lies above,

with products over the steps between: no factor exceeds 1, and no exponential of a large number is taken.
Four sums carry everything: A (over y, ·α) and C (over x, ·β) from below, B (over y, ·β) and D (over x, ·α)
from above. The mass of an x is w(A + B), of which wB moves up; that of a y is w(C + D), of which wC came up.

Newton's step on the dual solves the graph Laplacian of P. Eliminating the points in sorted order leaves a
2×2 matrix G = (gyy, g; g, gxx): how what has been eliminated couples the points above it. Each pivot is a sum
of products of positive numbers, so there is no cancellation, whatever the scale; a step is two passes.

All of it is one file because the compiler's cache looks only at the file of the function that is called.

Compiling takes seconds, so the machine code is cached beside the module or, where that folder is read-only,
in the user's cache folder; later processes (every Ray worker, every later run) load it in milliseconds. Numba
takes part of a second to load, so only the functions that need this module import it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Order = NDArray[np.int32]

#: Rows of the workspace: ψ, α, β, w, B, D, and the right-hand side of a Newton step.
ROWS = 7

# Share of a point's mass added to each pivot. It bounds the step between groups of points that exchange
# less than rounding errors, and is far below any coupling that matters.
_GROUND = 1e-12
# No progress by a third in so many Newton steps: the rounding floor, or a problem beyond float64.
_PATIENCE = 12
# Where groups of points hardly exchange mass, the last step can lift the error above tol again.
_AGAIN = 3
# Points in all from which on the step after convergence is left out.
_MANY = 65_536
# Scalings that may have changed by e^±_FAR are moved into ψ: the elimination squares them.
_FAR = 90.0
# Distance in ε within which the slope of a start is not worked out anew.
_NEAR = 2e-3
# Distance in ε from which on a step's slope is left as it is.
_WIDE = 0.3
Function = TypeVar("Function", bound=Callable[..., Any])

# Division by zero gives inf, as in numpy; products and sums may fuse, but are not reordered.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}, "nogil": True}


def compiled(function: Function) -> Function:
    """The function, compiled at its first call or loaded from the cache."""
    try:
        return cast(Function, numba.njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:  # no folder to write to: compile in each process
        return cast(Function, numba.njit(**_OPTIONS)(function))


@compiled
def merge(
    sorted_x: Array, sorted_y: Array, ix: Index, iy: Index, epsilon: float, z: Array, order: Order
) -> None:
    """z_p in units of ε from the lowest point on; order_p = i for x_i and n + j for y_j."""
    n, m = ix.size, iy.size
    base = min(sorted_x[0], sorted_y[0])
    i, j, p = 0, 0, 0
    while i < n and j < m:
        from_y = sorted_y[j] <= sorted_x[i]
        z[p] = ((sorted_y[j] if from_y else sorted_x[i]) - base) / epsilon
        order[p] = n + iy[j] if from_y else ix[i]
        j += from_y
        i += not from_y
        p += 1
    for k in range(i, n):
        z[m + k], order[m + k] = (sorted_x[k] - base) / epsilon, ix[k]
    for k in range(j, m):
        z[n + k], order[n + k] = (sorted_y[k] - base) / epsilon, n + iy[k]


@compiled
def _decay(d: float) -> float:
    """e^{−d}, d ≥ 0; most steps of a large sample are so short that four terms are exact."""
    if d < 1e-3:
        return 1.0 - d * (1.0 - d * (0.5 - d * (1.0 / 6.0 - d * (1.0 / 24.0))))
    return math.exp(-d)


@compiled
def _growth(s: float) -> float:
    """e^s; twelve terms are exact for most steps, and cheaper than a call."""
    if abs(s) < 0.25:
        total = 1.0
        for k in range(12, 0, -1):
            total = 1.0 + s * total * (1.0 / k)
        return total
    return math.exp(s)


@compiled
def _log_near_1(t: float) -> float:
    """log(1 + t) for |t| < 0.01, where eight terms are exact."""
    total = 0.0
    for k in range(8, 0, -1):
        total = 1.0 / k - t * total
    return t * total


@compiled
def start(z: Array, order: Order, n: int, m: int, work: Array) -> None:
    """ψ, α and β from the local balance of flows, w = 1.

    Where both samples are dense on the scale of ε, mass ρs/(1−s) moves up across a level and ρ(1−s)/s
    down, for slope s of ψ and mass ρ within one ε; the difference is F_X − F_Y = h. So s/(1−s) = e^θ with
    2 sinh θ = h/ρ. ρ is the geometric mean of both samples' masses under ½e^{−|z|}.
    """
    psi, alpha, beta, w, above_x, above_y = work[0], work[1], work[2], work[3], work[4], work[5]
    size = n + m
    sx, sy = 0.0, 0.0
    for p in range(size - 1, -1, -1):
        if p < size - 1:
            step = _decay(z[p + 1] - z[p])
            alpha[p] = step
            sx *= step
            sy *= step
        above_x[p], above_y[p] = sx, sy
        if order[p] >= n:
            sy += 1.0 / m
        else:
            sx += 1.0 / n
    sx, sy = 0.0, 0.0
    count_x, count_y, level, far, slope = 0, 0, 0.0, np.inf, 0.5
    for p in range(size):
        w[p] = 1.0
        psi[p] = level
        if order[p] >= n:
            sy += 1.0 / m
            count_y += 1
        else:
            sx += 1.0 / n
            count_x += 1
        if p == size - 1:
            alpha[p], beta[p] = 1.0, 1.0
            break
        d, step = z[p + 1] - z[p], alpha[p]
        far += d
        if far > _NEAR:
            slope = _slope((count_x * m - count_y * n) / (n * m), sx, sy, above_x[p], above_y[p], step)
            far = 0.0
        rise = slope * d
        level += rise
        alpha[p] = _decay(rise)
        beta[p] = _decay(d - rise)
        sx *= step
        sy *= step


@compiled
def _slope(h: float, sx: float, sy: float, above_x: float, above_y: float, step: float) -> float:
    """s with s/(1−s) = e^θ, 2 sinh θ = h/ρ; the densities are taken half-way between two points."""
    half = math.sqrt(step)
    if half > 1e-140:
        rho = 0.5 * math.sqrt((sx * half + above_x / half) * (sy * half + above_y / half))
    else:
        rho = 0.0
    if h == 0.0:
        return 0.5
    if rho <= 1e-12 * abs(h):
        return 1.0 - 1e-12 if h > 0 else 1e-12
    t = 0.5 * abs(h) / rho
    ratio = t + math.sqrt(t * t + 1.0)
    return ratio / (1.0 + ratio) if h > 0 else 1.0 / (1.0 + ratio)


@compiled
def resume(order: Order, n: int, f: Array, g: Array, epsilon: float, work: Array) -> None:
    """w from potentials of an earlier run, in the units of the points. Only a start: it may be far off."""
    psi, w = work[0], work[3]
    shift = 0.0
    for p in range(order.size):
        if order[p] < n:
            shift = f[order[p]] / epsilon + psi[p]
            break
    for p in range(order.size):
        k = order[p]
        log_w = f[k] / epsilon + psi[p] - shift if k < n else g[k - n] / epsilon - psi[p] + shift
        w[p] = math.exp(min(max(log_w, -60.0), 60.0))


@compiled
def from_above(order: Order, n: int, work: Array) -> None:
    """B and D."""
    alpha, beta, w, up, down = work[1], work[2], work[3], work[4], work[5]
    b, d = 0.0, 0.0
    for p in range(order.size - 1, -1, -1):
        b *= beta[p]
        d *= alpha[p]
        up[p], down[p] = b, d
        is_x, wp = order[p] < n, w[p]
        b += 0.0 if is_x else wp
        d += wp if is_x else 0.0


@compiled
def fit_x(order: Order, n: int, work: Array) -> None:
    """Sinkhorn's half-step for x: w = (1/n)/(A + B)."""
    alpha, w, up = work[1], work[3], work[4]
    a = 0.0
    for p in range(order.size):
        is_x, wp = order[p] < n, w[p]
        w[p] = 1.0 / (n * (a + up[p])) if is_x else wp
        a += 0.0 if is_x else wp
        a *= alpha[p]


@compiled
def fit_y(order: Order, n: int, m: int, work: Array) -> None:
    """Sinkhorn's half-step for y: w = (1/m)/(C + D)."""
    beta, w, down = work[2], work[3], work[5]
    c = 0.0
    for p in range(order.size):
        is_x, wp = order[p] < n, w[p]
        w[p] = wp if is_x else 1.0 / (m * (c + down[p]))
        c += wp if is_x else 0.0
        c *= beta[p]


@compiled
def balance(z: Array, order: Order, n: int, m: int, work: Array) -> None:
    """Tilt ψ between near neighbours so that the flows CB up and AD down differ by F_X − F_Y.

    A slope s moves mass ∝ s/(1−s) up and ∝ (1−s)/s down, so the factor k on s/(1−s) solves
    k·CB − AD/k = h. Wide steps are left to Newton: there the sums see too few points for such a law.
    """
    psi, alpha, beta, w, up, down = work[0], work[1], work[2], work[3], work[4], work[5]
    a, c, level, far, slope = 0.0, 0.0, 0.0, np.inf, 0.5
    count_x, count_y = 0, 0
    for p in range(order.size - 1):
        is_x, wp, d = order[p] < n, w[p], z[p + 1] - z[p]
        a += 0.0 if is_x else wp
        c += wp if is_x else 0.0
        count_x += is_x
        count_y += not is_x
        rise = psi[p + 1] - psi[p]
        far += d
        if d > _NEAR or (far > _NEAR and d > 0.0):
            slope, far = rise / d, 0.0
            if d < _WIDE:
                h = (count_x * m - count_y * n) / (n * m)
                k = _tilt(h, c * up[p], a * down[p])
                slope = k * slope / (1.0 - slope + k * slope)
        a *= alpha[p]
        c *= beta[p]
        psi[p] = level
        if d < _WIDE:
            rise = slope * d
            alpha[p], beta[p] = _decay(rise), _decay(d - rise)
        level += rise
    psi[order.size - 1] = level


@compiled
def _tilt(h: float, upward: float, downward: float) -> float:
    """k > 0 with k·upward − downward/k = h, at most 3 and at least ⅓."""
    root = math.sqrt(h * h + 4.0 * upward * downward)
    if h > 0:
        k = 0.5 * (h + root) / upward
    elif root > h:
        k = 2.0 * downward / (root - h)
    else:
        k = 1.0
    return min(max(k, 1.0 / 3.0), 3.0)


@compiled
def eliminate(order: Order, n: int, m: int, work: Array, pair: Array) -> float:
    """Forward pass of a Newton step; returns the marginal error of the present w.

    A point with pivot δ and right-hand side r couples to the points above through q = (q1, q2): q1 to
    the x's through D, q2 to the y's through B. Then G += q qᵀ/δ and t += q r/δ. Without branches: whether
    the next point is an x or a y is a coin toss, and each wrong guess would cost as much as the arithmetic.
    """
    alpha, beta, w, up, down = work[1], work[2], work[3], work[4], work[5]
    share = work[6]
    a, c, gyy, g1, gxx, ty, tx, error_x, error_y = 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    mass_x, mass_y = 1.0 / n, 1.0 / m
    for p in range(order.size):
        wp, b, d, al, be = w[p], up[p], down[p], alpha[p], beta[p]
        is_x = order[p] < n
        mass = mass_x if is_x else mass_y
        missing = mass - wp * (a + b if is_x else c + d)
        square = missing * missing
        error_x += square if is_x else 0.0
        error_y += 0.0 if is_x else square
        r = missing + wp * ty if is_x else wp * tx - missing
        q1, q2 = wp * (gyy if is_x else g1), wp * (g1 if is_x else gxx)
        a += 0.0 if is_x else wp
        c += wp if is_x else 0.0
        inverse = 1.0 / (q1 * d + q2 * b + _GROUND * mass)
        v1, v2 = q1 * inverse, q2 * inverse
        share[p], pair[p, 0], pair[p, 1] = r * inverse, v1, v2
        a *= al
        c *= be
        gyy = (gyy + q1 * v1) * (al * al)
        g1 = 1.0 + (g1 - 1.0 + q1 * v2) * (al * be)
        gxx = (gxx + q2 * v2) * (be * be)
        ty = (ty + v1 * r) * al
        tx = (tx + v2 * r) * be
    share[order.size - 1] = 0.0  # f + 1, g − 1 changes nothing: the last point stays where it is
    return math.sqrt(max(error_x, error_y))


@compiled
def substitute(order: Order, n: int, work: Array, pair: Array) -> float:
    """Backward pass: the step ζ (of log w at an x, of −log w at a y), the new w, B and D.

    Returns the largest |log| of a factor by which some w has changed.

    From one point to the next ζ changes by no more than 1 + log of what Newton asks for: a flow q that must
    become h ≫ q needs ζ = log(h/q), where the linear model says h/q.
    """
    alpha, beta, w, up, down = work[1], work[2], work[3], work[4], work[5]
    share = work[6]
    b, d, zeta_b, zeta_d, last, step = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    farthest = 0.0
    for p in range(order.size - 1, -1, -1):
        al, be, wp = alpha[p], beta[p], w[p]
        is_x = order[p] < n
        b *= be
        d *= al
        zeta_b *= be
        zeta_d *= al
        up[p], down[p] = b, d
        zeta = share[p] + pair[p, 0] * zeta_d + pair[p, 1] * zeta_b
        moved = wp * zeta
        zeta_b += 0.0 if is_x else moved
        zeta_d += moved if is_x else 0.0
        change = zeta - last
        last = zeta
        if abs(change) > 1.0:
            change = math.copysign(1.0 + math.log(abs(change)), change)
        step += change
        farthest = abs(step) if abs(step) > farthest else farthest
        wp *= _growth(step if is_x else -step)
        w[p] = wp
        b += 0.0 if is_x else wp
        d += wp if is_x else 0.0
    return farthest


@compiled
def absorb(z: Array, order: Order, n: int, work: Array) -> None:
    """Move the potentials into ψ, so that w is moderate again; then B and D anew.

    −f is a soft maximum, log(A + B) above ψ, with slopes in [0, 1] at any point, so it can serve as ψ.
    """
    psi, alpha, beta, w, up = work[0], work[1], work[2], work[3], work[4]
    a, level, lift, before = 0.0, 0.0, 0.0, 0.0
    for p in range(order.size):
        is_x, wp, old = order[p] < n, w[p], psi[p]
        total = a + up[p] + (0.0 if is_x else wp)
        if total > 1e-290:
            lift = math.log(total)
        a = (a + (0.0 if is_x else wp)) * alpha[p]
        if p == 0:
            level = old + lift
        else:
            d = z[p] - z[p - 1]
            rise = min(max(old + lift - before, 0.0), d)
            level += rise
            alpha[p - 1], beta[p - 1] = _decay(rise), _decay(d - rise)
        before = level
        psi[p] = level
        change = min(max(level - old, -600.0), 600.0)
        w[p] = min(max(wp * math.exp(change if is_x else -change), 1e-40), 1e40)
    from_above(order, n, work)


@compiled
def finish(
    z: Array, order: Order, n: int, m: int, epsilon: float, work: Array, pair: Array
) -> tuple[float, float, float]:
    """value, cost and marginal error; (potential, gradient) of each point in the order of x, then y."""
    psi, alpha, beta, w, up, down = work[0], work[1], work[2], work[3], work[4], work[5]
    centre = 0.5 * psi[order.size - 1]
    a, c, error_x, error_y, cost, value = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    # log w near the last one of the same sample: in dense samples they differ little.
    inverse_x, log_x, inverse_y, log_y = 1.0, 0.0, 1.0, 0.0
    for p in range(order.size):
        k, wp, b, level = order[p], w[p], up[p], psi[p] - centre
        is_x = k < n
        mass = wp * (a + b if is_x else c + down[p])
        missing = mass - (1.0 / n if is_x else 1.0 / m)
        error_x += missing * missing if is_x else 0.0
        error_y += 0.0 if is_x else missing * missing
        t = wp * (inverse_x if is_x else inverse_y) - 1.0
        if abs(t) < 0.01:
            log_w = (log_x if is_x else log_y) + _log_near_1(t)
        else:
            log_w = math.log(wp)
            if is_x:
                inverse_x, log_x = 1.0 / wp, log_w
            else:
                inverse_y, log_y = 1.0 / wp, log_w
        height = epsilon * (log_w + (-level if is_x else level))
        pair[k, 0] = height
        pair[k, 1] = wp * (-b if is_x else c)
        value += mass * height
        a += 0.0 if is_x else wp
        c += wp if is_x else 0.0
        if p + 1 < order.size:
            cost += c * b * (z[p + 1] - z[p])
        a *= alpha[p]
        c *= beta[p]
    return value, cost * epsilon, math.sqrt(max(error_x, error_y))


@compiled
def sweep(z: Array, order: Order, n: int, m: int, work: Array) -> None:
    """A cold start: the local balance of flows, by density and then by the flows themselves."""
    start(z, order, n, m, work)
    from_above(order, n, work)
    fit_x(order, n, work)
    from_above(order, n, work)
    fit_y(order, n, m, work)
    from_above(order, n, work)
    balance(z, order, n, m, work)


@compiled
def prepare(order: Order, n: int, work: Array) -> None:
    """What a Newton step builds on: right masses at the x's, and the sums B and D."""
    from_above(order, n, work)
    fit_x(order, n, work)
    from_above(order, n, work)


@compiled
def recall(z: Array, order: Order, n: int, m: int, epsilon: float, f: Array, g: Array, work: Array) -> None:
    """A start from potentials of an earlier run."""
    start(z, order, n, m, work)
    resume(order, n, f, g, epsilon, work)
    from_above(order, n, work)
    fit_y(order, n, m, work)
    prepare(order, n, work)


@compiled
def newton(
    z: Array, order: Order, n: int, m: int, tol: float, max_iterations: int, work: Array, pair: Array
) -> int:
    """Newton steps until the marginal error is at most tol; returns their number.

    A small problem takes one more, which squares an error that was small enough, so that single points
    are exact too; among very many, each point's error is far below tol as it is.
    """
    prepare(order, n, work)
    best, last, moved, since, iterations = np.inf, 1e-3, 0.0, 0, 0
    while iterations < max_iterations:
        error = eliminate(order, n, m, work, pair)
        if not math.isfinite(error) or error < 1e-15 or (error <= tol and order.size > _MANY):
            break
        moved += substitute(order, n, work, pair)
        if moved > _FAR:
            absorb(z, order, n, work)
            moved = 0.0
        iterations += 1
        # Newton squares: e″/e′ ≈ (e′/e)². Where that foretells convergence, the results' own check suffices.
        if error <= tol or (order.size > _MANY and error * (error / last) ** 2 <= 0.1 * tol):
            break
        last = error
        since = 0 if error < 0.67 * best else since + 1
        best = min(best, error)
        if since > _PATIENCE:
            break
    return iterations


@compiled
def solve(
    z: Array,
    order: Order,
    n: int,
    m: int,
    epsilon: float,
    tol: float,
    max_iterations: int,
    f: Array,
    g: Array,
    work: Array,
    pair: Array,
) -> tuple[float, float, float, int]:
    """value, cost, marginal error and Newton steps; f and g are empty, or a start if nearer than the own one.

    pair holds a step's elimination until (potential, gradient) take its place, in the order of x, then y:
    two numbers side by side, for every point is a jump in memory.
    """
    if f.size == n and g.size == m:
        recall(z, order, n, m, epsilon, f, g, work)
        given = eliminate(order, n, m, work, pair)
        sweep(z, order, n, m, work)
        prepare(order, n, work)
        if given < eliminate(order, n, m, work, pair):
            recall(z, order, n, m, epsilon, f, g, work)
    else:
        sweep(z, order, n, m, work)
    iterations = newton(z, order, n, m, tol, max_iterations, work, pair)
    value, cost, error = finish(z, order, n, m, epsilon, work, pair)
    for _ in range(_AGAIN):
        if error <= tol or iterations >= max_iterations:
            break
        iterations += newton(z, order, n, m, tol, max_iterations - iterations, work, pair)
        value, cost, error = finish(z, order, n, m, epsilon, work, pair)
    return value, cost, error, iterations


@compiled
def solve_many(
    x: Array,
    y: Array,
    by_x: Index,
    by_y: Index,
    end_x: Index,
    end_y: Index,
    epsilon: Array,
    tol: float,
    max_iterations: int,
    pair: Array,
    summary: Array,
) -> None:
    """Problem k takes x[end_x[k−1]:end_x[k]] and likewise y; the rows of summary are as ``solve`` returns."""
    largest = 0
    for k in range(epsilon.size):
        largest = max(largest, end_x[k + 1] - end_x[k] + end_y[k + 1] - end_y[k])
    z, order, buffer = np.empty(largest), np.empty(largest, np.int32), np.empty(ROWS * largest)
    none = np.empty(0)
    for k in range(epsilon.size):
        x0, x1, y0, y1 = end_x[k], end_x[k + 1], end_y[k], end_y[k + 1]
        n, m = x1 - x0, y1 - y0
        size, low = n + m, x0 + y0
        work = buffer[: ROWS * size].reshape((ROWS, size))
        ix, iy = by_x[x0:x1], by_y[y0:y1]
        merge(x[x0:x1][ix], y[y0:y1][iy], ix, iy, epsilon[k], z[:size], order[:size])
        value, cost, error, iterations = solve(
            z[:size],
            order[:size],
            n,
            m,
            epsilon[k],
            tol,
            max_iterations,
            none,
            none,
            work,
            pair[low : low + size],
        )
        summary[k, 0], summary[k, 1], summary[k, 2], summary[k, 3] = value, cost, error, iterations
