import math

import pytest
import torch
from scipy.stats import multivariate_normal, multivariate_t
from torch import nn
from torch.func import functional_call, jacrev

from sciviz.ntk import (
    apply_ensemble,
    decay_rates,
    empirical_ntk,
    flatten_blocks,
    gp_posterior,
    infinite_kernels,
    init_ensemble,
    kernel_descent,
    kernel_flow,
    kernel_modes,
    kernel_regression,
    linearize,
    make_mlp,
    quadratize,
    student_t_posterior,
)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def problem(n=6, m=4, out=None):
    X = draw(n + m, 3)
    kernel = infinite_kernels(X, depth=2, weight_variance=2.0, bias_variance=0.1).ntk
    shape = (n + m,) if out is None else (n + m, out)
    y, start = draw(*shape, seed=1), draw(*shape, seed=2)
    return kernel[:n, :n], kernel[n:, :n], y[:n], start[:n], start[n:]


@pytest.mark.parametrize("loss", ["mean", "sum"])
@pytest.mark.parametrize("out", [None, 1, 3])
def test_flow_is_the_matrix_exponential_and_its_integral(loss, out):
    kernel, cross, y, start, test_start = problem(out=out)
    times = [0.0, 0.3, 2.0, 50.0]
    path = kernel_flow(kernel, y, times, test_kernel=cross, initial=start, test_initial=test_start, lr=0.7, loss=loss)
    rate = 0.7 / len(y) if loss == "mean" else 0.7
    for i, time in enumerate(times):
        decay = torch.linalg.matrix_exp(-rate * time * kernel)
        train = y + decay @ (start - y)
        test = test_start - cross @ torch.linalg.solve(kernel, start - y - decay @ (start - y))
        torch.testing.assert_close(path.train[i], train, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(path.test[i], test, rtol=1e-8, atol=1e-9)


def test_flow_is_what_many_tiny_steps_do():
    kernel, cross, y, start, test_start = problem()
    kwargs = {"test_kernel": cross, "initial": start, "test_initial": test_start}
    flow = kernel_flow(kernel, y, [1.0], **kwargs)
    train, test, step = start.clone(), test_start.clone(), 1e-5
    for _ in range(100_000):
        error = (train - y) / len(y)
        train, test = train - step * kernel @ error, test - step * cross @ error
    torch.testing.assert_close(flow.train[0], train, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(flow.test[0], test, rtol=1e-4, atol=1e-4)
    descent = kernel_descent(kernel, y, [100_000], lr=step, **kwargs)
    torch.testing.assert_close(descent.train[0], train, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(descent.test[0], test, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lr", [0.1, 1.5, 2.3])
@pytest.mark.parametrize("loss", ["mean", "sum"])
def test_descent_is_exact_at_every_step_size_even_where_it_diverges(lr, loss):
    kernel, cross, y, start, test_start = problem(out=2)
    scale = len(y) if loss == "mean" else 1
    lr = lr * scale / float(torch.linalg.eigvalsh(kernel)[-1])
    path = kernel_descent(
        kernel, y, range(31), test_kernel=cross, initial=start, test_initial=test_start, lr=lr, loss=loss
    )
    train, test = start, test_start
    for k in range(31):
        torch.testing.assert_close(path.train[k], train, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(path.test[k], test, rtol=1e-8, atol=1e-9)
        error = (train - y) / scale
        train, test = train - lr * kernel @ error, test - lr * cross @ error


def test_a_singular_kernel_leaves_its_null_directions_alone_and_moves_test_points_steadily():
    kernel = torch.diag(torch.tensor([2.0, 0.0], dtype=torch.float64))
    cross = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([1.0, 1.0], dtype=torch.float64)
    flow = kernel_flow(kernel, y, [0.0, 3.0, 1e6], test_kernel=cross, loss="sum")
    assert flow.train[:, 1].tolist() == [0.0, 0.0, 0.0]
    assert flow.test[:, 0].tolist() == [0.0, 3.0, 1e6]
    assert kernel_descent(kernel, y, [4], test_kernel=cross, lr=0.25, loss="sum").test.tolist() == [[1.0]]


def test_each_component_of_the_error_decays_at_its_own_rate():
    kernel, _, y, _, _ = problem()
    modes = kernel_modes(kernel)
    assert bool((modes.eigenvalues.diff() <= 0).all())
    torch.testing.assert_close(modes.eigenvectors * modes.eigenvalues @ modes.eigenvectors.T, kernel)
    rates = decay_rates(modes.eigenvalues, lr=0.5)
    components = (kernel_flow(kernel, y, [0.0, 1.0], lr=0.5).train - y) @ modes.eigenvectors
    torch.testing.assert_close(components[1] / components[0], torch.exp(-rates))


def test_full_blocks_are_the_dynamics_of_all_outputs_together():
    network = make_mlp(input_dim=3, width=6, depth=1, output_dim=2, activation="tanh", seed=0, dtype=torch.float64)
    X, y = draw(7, 3), draw(5, 2, seed=1)
    kernel = empirical_ntk(network, X)
    path = kernel_flow(kernel[:5, :5], y, [0.5, 4.0], test_kernel=kernel[5:, :5], initial=0 * y + 1)
    flat = flatten_blocks(kernel[:5, :5])
    for i, time in enumerate([0.5, 4.0]):
        error = torch.linalg.matrix_exp(-flat * time / 5) @ (1 - y).reshape(-1)
        torch.testing.assert_close(path.train[i], y + error.view(5, 2))
        moved = (
            flatten_blocks(kernel[5:, :5]) @ torch.linalg.lstsq(flat, (1 - y).reshape(-1, 1) - error[:, None]).solution
        )
        torch.testing.assert_close(path.test[i], -moved.view(2, 2), rtol=1e-6, atol=1e-7)


def test_gradient_descent_on_the_linearised_network_is_kernel_descent():
    network = make_mlp(input_dim=3, width=20, depth=2, bias_variance=0.2, seed=0, dtype=torch.float64)
    X, y = draw(9, 3), draw(6, 1, seed=1)
    model = linearize(network)
    kernel = empirical_ntk(network, X, output="trace")
    start = network(X).detach()
    path = kernel_descent(
        kernel[:6, :6], y, range(11), test_kernel=kernel[6:, :6], initial=start[:6], test_initial=start[6:], lr=0.4
    )
    params = dict(network.named_parameters())
    for k in range(11):
        outputs = model(params, X).detach()
        torch.testing.assert_close(path.train[k], outputs[:6], rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(path.test[k], outputs[6:], rtol=1e-9, atol=1e-10)
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        loss = (model(leaves, X[:6]) - y).square().mean() / 2
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        params = {k: v - 0.4 * g for (k, v), g in zip(leaves.items(), gradients, strict=True)}


@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_taylor_models_match_value_slope_and_curvature(activation):
    network = make_mlp(input_dim=3, width=4, depth=2, activation=activation, seed=0, dtype=torch.float64)
    X = draw(5, 3)
    centre = {name: value.detach() for name, value in network.named_parameters()}
    change = {name: draw(*value.shape, seed=5) for name, value in centre.items()}
    jacobian = jacrev(lambda p: functional_call(network, p, (X,)))(centre)
    first = sum((jacobian[name] * change[name]).flatten(2).sum(2) for name in centre)
    moved = {name: centre[name] + change[name] for name in centre}
    torch.testing.assert_close(linearize(network)(moved, X), network(X) + first)
    torch.testing.assert_close(linearize(network, moved)(moved, X), functional_call(network, moved, (X,)))

    errors = {1: [], 2: []}
    for step in (1e-2, 1e-3):
        near = {name: centre[name] + step * change[name] for name in centre}
        exact = functional_call(network, near, (X,))
        for order, model in ((1, linearize(network)), (2, quadratize(network))):
            errors[order].append(float((model(near, X) - exact).abs().max()))
    assert math.log10(errors[1][0] / errors[1][1]) == pytest.approx(2, abs=0.2)
    assert math.log10(errors[2][0] / errors[2][1]) == pytest.approx(3, abs=0.3)


def test_the_quadratic_model_can_be_trained_and_its_kernel_moves():
    network = make_mlp(input_dim=3, width=30, depth=1, seed=0, dtype=torch.float64)
    X, y = draw(6, 3), draw(6, 1, seed=1)
    model = quadratize(network)
    leaves = {name: value.detach().clone().requires_grad_() for name, value in network.named_parameters()}
    losses = []
    for _ in range(30):
        loss = (model(leaves, X) - y).square().mean()
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        leaves = {
            k: (v - 0.1 * g).detach().requires_grad_() for (k, v), g in zip(leaves.items(), gradients, strict=True)
        }
    assert losses[-1] < 0.5 * losses[0]
    fixed = jacrev(lambda p: linearize(network)(p, X))
    moving = jacrev(lambda p: model(p, X))
    start = {name: value.detach() for name, value in network.named_parameters()}
    end = {name: value.detach() for name, value in leaves.items()}
    torch.testing.assert_close(fixed(end)["2.weight"], fixed(start)["2.weight"])
    assert float((moving(end)["2.weight"] - moving(start)["2.weight"]).abs().max()) > 1e-3


def test_taylor_models_of_an_ensemble_are_those_of_its_members():
    network, params = init_ensemble(3, input_dim=3, width=5, depth=1, activation="erf", seed=0, dtype=torch.float64)
    X = draw(4, 3)
    moved = {name: value + 0.3 * draw(*value.shape, seed=3) for name, value in params.items()}
    for build in (linearize, quadratize):
        together = build(lambda p, X: apply_ensemble(network, p, X), params)(moved, X)
        one = build(network, {name: value[1] for name, value in params.items()})
        torch.testing.assert_close(together[1], one({name: value[1] for name, value in moved.items()}, X))


@pytest.mark.parametrize("out", [None, 2])
def test_regression_is_the_end_of_the_flow(out):
    kernel, cross, y, _, _ = problem(out=out)
    flow = kernel_flow(kernel, y, [1e6], test_kernel=cross)
    torch.testing.assert_close(kernel_regression(kernel, y, cross), flow.test[0], rtol=1e-6, atol=1e-6)
    ridge = cross @ torch.linalg.solve(kernel + 0.5 * torch.eye(len(y), dtype=torch.float64), y)
    torch.testing.assert_close(kernel_regression(kernel, y, cross, ridge=0.5), ridge)


def posterior_problem():
    X = draw(8, 3)
    K = infinite_kernels(X, depth=1, bias_variance=0.2).nngp
    return K, draw(8, seed=3), slice(0, 5), slice(5, 8)


def test_gaussian_posterior_is_bayes_rule_on_densities():
    K, y, seen, new = posterior_problem()
    noise = 0.1
    posterior = gp_posterior(K[seen, seen], y[seen], K[new, seen], K[new, new], noise_variance=noise, jitter=0.0)
    noisy = K + noise * torch.eye(8, dtype=torch.float64)
    joint = multivariate_normal(cov=noisy.numpy()).logpdf(y.numpy())
    marginal = multivariate_normal(cov=noisy[seen, seen].numpy()).logpdf(y[seen].numpy())
    assert posterior.log_marginal_likelihood == pytest.approx(marginal)
    conditional = multivariate_normal(
        posterior.mean.numpy(), (posterior.covariance + noise * torch.eye(3)).numpy()
    ).logpdf(y[new].numpy())
    assert conditional == pytest.approx(joint - marginal)
    single = gp_posterior(K[seen, seen], y[seen], K[5:6, seen], K[5:6, 5:6], noise_variance=noise, jitter=0.0)
    expected = multivariate_normal(cov=noisy[:6, :6].numpy()).logpdf(y[:6].numpy()) - marginal
    assert float(single.log_density(y[5:6], noise_variance=noise)) == pytest.approx(expected)
    torch.testing.assert_close(single.log_density(y[5:6]), posterior.log_density(y[new])[:1])


def test_student_t_posterior_is_bayes_rule_on_densities():
    K, y, seen, new = posterior_problem()
    nu, noise = 4.0, 0.1
    noisy = (K + noise * torch.eye(8, dtype=torch.float64)).numpy()
    arguments = {"degrees_of_freedom": nu, "noise_variance": noise, "jitter": 0.0}
    posterior = student_t_posterior(K[seen, seen], y[seen], K[new, seen], K[new, new], **arguments)
    marginal = multivariate_t(shape=noisy[seen, seen], df=nu).logpdf(y[seen].numpy())
    assert posterior.log_marginal_likelihood == pytest.approx(marginal)
    single = student_t_posterior(K[seen, seen], y[seen], K[5:6, seen], K[5:6, 5:6], **arguments)
    expected = multivariate_t(shape=noisy[:6, :6], df=nu).logpdf(y[:6].numpy()) - marginal
    assert float(single.log_density(y[5:6], noise_variance=noise)) == pytest.approx(expected)
    gaussian = gp_posterior(K[seen, seen], y[seen], K[new, seen], K[new, new], noise_variance=noise, jitter=0.0)
    torch.testing.assert_close(posterior.mean, gaussian.mean)
    assert posterior.degrees_of_freedom == 9.0
    torch.testing.assert_close(posterior.covariance, posterior.scale_matrix * 9 / 7)


def test_student_t_with_many_degrees_of_freedom_is_gaussian():
    K, y, seen, new = posterior_problem()
    kernels = (K[seen, seen], y[seen], K[new, seen], K[new, new])
    wide, gaussian = student_t_posterior(*kernels, degrees_of_freedom=1e9), gp_posterior(*kernels)
    torch.testing.assert_close(wide.covariance, gaussian.covariance, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(wide.log_density(y[new]), gaussian.log_density(y[new]), rtol=1e-6, atol=1e-6)
    assert student_t_posterior(*kernels, degrees_of_freedom=1e-3).covariance.isfinite().all()


def test_posterior_of_the_scale_mixture_agrees_with_sampling():
    K = torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    nu, draws = 5.0, 400_000
    generator = torch.Generator().manual_seed(0)
    gaussians = torch.randn(draws, 2, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(K).T
    chi = torch.randn(draws, int(nu), generator=generator, dtype=torch.float64).square().sum(1)
    f = gaussians * (nu / chi).sqrt()[:, None]
    kept = f[(f[:, 0] - 2.0).abs() < 0.1][:, 1]
    posterior = student_t_posterior(
        K[:1, :1], torch.tensor([2.0], dtype=torch.float64), K[1:, :1], K[1:, 1:], degrees_of_freedom=nu
    )
    assert float(kept.mean()) == pytest.approx(float(posterior.mean), abs=0.05)
    assert float(kept.var()) == pytest.approx(float(posterior.covariance), rel=0.1)


K2 = torch.eye(2, dtype=torch.float64)
Y2 = torch.ones(2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernel_modes(torch.zeros(2, 3)), "kernel must be square, got shape"),
        (lambda: kernel_modes(torch.tensor([[1.0, 2.0], [0.0, 1.0]])), "kernel must be symmetric"),
        (lambda: kernel_modes(-K2), "kernel must be positive semi-definite"),
        (lambda: kernel_modes(math.nan * K2), "kernel must hold finite numbers only"),
        (lambda: kernel_flow(K2, Y2, [-1.0]), "times must be at least 0, got -1.0"),
        (lambda: kernel_flow(K2, Y2, [math.inf]), "times must hold finite numbers only"),
        (lambda: kernel_flow(K2, torch.ones(3), [1.0]), "kernel and y must have the same first dimension"),
        (lambda: kernel_flow(K2, Y2, [1.0], initial=torch.ones(3)), "initial and y must have the same shape"),
        (lambda: kernel_flow(K2, Y2, [1.0], test_kernel=torch.ones(4, 3)), "test_kernel must be the kernel of test"),
        (
            lambda: kernel_flow(K2, Y2, [1.0], test_kernel=K2, test_initial=torch.ones(3)),
            "test_initial must have",
        ),
        (lambda: kernel_flow(K2, Y2, [1.0], lr=-1.0), "lr must be a finite number greater than 0"),
        (lambda: kernel_flow(K2, Y2, [1.0], loss="hinge"), "loss must be one of 'mean', 'sum'"),
        (lambda: kernel_flow(torch.ones(2, 2, 3, 3), Y2, [1.0]), "y must have shape .n, out. with a kernel in full"),
        (lambda: kernel_flow(K2, torch.tensor([0, 1]), [1.0]), "y must hold floating-point numbers, got torch.int64"),
        (lambda: kernel_descent(K2, Y2, [0.5], lr=1.0), "steps must be whole numbers of at least 0"),
        (lambda: kernel_descent(K2, Y2, [-1], lr=1.0), "steps must be whole numbers of at least 0"),
        (lambda: linearize(lambda p, X: X), "params must be given where the model is a function"),
        (lambda: linearize(nn.Linear(2, 1))({}, torch.ones(1, 2)), "params must hold the tensors"),
        (
            lambda: linearize(nn.Linear(2, 1))({"weight": torch.ones(3, 2), "bias": torch.ones(1)}, torch.ones(1, 2)),
            "params and expansion_point must have the same shape",
        ),
        (lambda: kernel_regression(K2, Y2, torch.ones(1, 3)), "test_kernel must have one column for each training"),
        (lambda: kernel_regression(K2, Y2, K2, ridge=-1.0), "ridge must be a finite number of at least 0"),
        (lambda: kernel_regression(-K2, Y2, K2), "kernel must be positive definite once"),
        (lambda: gp_posterior(K2, K2, K2, K2), "y must have 1 dimension"),
        (lambda: gp_posterior(K2, Y2, K2, torch.ones(2, 3)), "test_test_kernel must be square"),
        (lambda: gp_posterior(K2, math.inf * Y2, K2, K2), "y must hold finite numbers only"),
        (lambda: gp_posterior(K2, Y2, K2, K2).log_density(torch.ones(3)), "y and mean must have the same shape"),
        (lambda: student_t_posterior(K2, Y2, K2, K2, degrees_of_freedom=0.0), "degrees_of_freedom must be a finite"),
    ],
)
def test_bad_input_gets_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
