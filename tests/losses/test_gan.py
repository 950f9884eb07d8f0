"""The discriminator's independences and the hinge losses' closed forms."""

import pytest
import torch

from salticid.losses.gan import PatchDiscriminator, hinge_discriminator, hinge_generator


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 64, generator=torch.Generator().manual_seed(0))


def discriminator(**options):
    torch.manual_seed(0)
    return PatchDiscriminator(width=8, **options)


def test_logits_do_not_depend_on_the_batch_or_the_mode(images):
    net = discriminator()
    logits = net(images)
    assert logits.shape == (3, 1, 4, 8)
    torch.testing.assert_close(net(images[1:2]), logits[1:2], rtol=1e-5, atol=1e-6)
    assert torch.equal(net.eval()(images), logits)
    assert logits.std() > 0


@pytest.mark.parametrize("wrap", [True, False])
def test_a_roll_of_the_panorama_rolls_the_logits_where_it_wraps(images, wrap):
    net = discriminator(wrap=wrap).double()
    images = images.double()
    rolled, expected = net(images.roll(24, dims=-1)), net(images).roll(3, dims=-1)
    assert torch.allclose(rolled, expected, rtol=1e-9, atol=1e-9) == wrap


def test_a_logit_sees_as_many_pixels_as_documented():
    net = discriminator(layers=2).double()
    for module in net.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.forward = lambda x: x  # what it adds is the statistics of the whole image
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64).requires_grad_()
    net(image)[0, 0, 8, 8].backward()
    seen = image.grad.abs().sum(dim=(0, 1)).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [23, 23]  # 6 · 2² − 1


def test_hinge_losses_have_their_closed_forms():
    real = torch.tensor([[2.0, 0.5], [-1.0, 1.0]]).reshape(2, 1, 1, 2)
    fake = torch.tensor([[-2.0, 0.0], [3.0, -1.0]]).reshape(2, 1, 1, 2)
    torch.testing.assert_close(hinge_discriminator(real, fake), torch.tensor([0.25 + 0.5, 1.0 + 2.0]))
    torch.testing.assert_close(hinge_generator(fake), torch.tensor([1.0, -1.0]))
    assert hinge_discriminator(real.bfloat16(), fake.bfloat16()).dtype == torch.float32


def test_gradients_push_real_and_fake_apart_only_within_the_margin():
    real, fake = torch.tensor([[0.0, 3.0]]).requires_grad_(), torch.tensor([[0.0, -3.0]]).requires_grad_()
    hinge_discriminator(real, fake).sum().backward()
    assert real.grad.tolist() == [[-0.5, 0.0]]
    assert fake.grad.tolist() == [[0.5, 0.0]]


def test_a_step_of_each_side_lowers_its_loss(images):
    net = discriminator()
    fake = (0.5 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))).requires_grad_()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    before = hinge_discriminator(net(images), net(fake.detach())).mean()
    before.backward()
    optimizer.step()
    assert hinge_discriminator(net(images), net(fake.detach())).mean() < before
    generator_before = hinge_generator(net(fake)).mean()
    (slope,) = torch.autograd.grad(generator_before, fake)
    assert hinge_generator(net(fake.detach() - 1e-3 * slope / slope.norm())).mean() < generator_before
