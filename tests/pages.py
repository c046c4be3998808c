"""What tests of the page for people share: what is on it, and a service's little models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import models

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

LAST = "#grid img >> nth=63"
WIDE = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

_BESIDE = 120  # pixels from a message to what caused it


def source(page: Page, selector: str) -> str:
    """The address of the picture there, with the picture in it."""
    return page.locator(selector).first.get_attribute("src") or ""


def changed(page: Page, selector: str, before: str) -> str:
    """The picture there, as soon as it is another than `before`."""
    page.wait_for_function(
        "([s, b]) => document.querySelector(s)?.src && document.querySelector(s).src !== b",
        arg=[selector, before],
    )
    return source(page, selector)


def focused(page: Page) -> str:
    """What has the focus: its id, or its picture's description."""
    found: str = page.evaluate(
        "document.activeElement.id || document.activeElement.querySelector('img')?.alt"
        " || document.activeElement.ariaLabel || document.activeElement.tagName"
    )
    return found


def strip(page: Page, number: int = 0) -> list[str]:
    """The pictures of a slider, once they are there."""
    images = page.locator(f".unit >> nth={number}").locator("img")
    images.last.and_(page.locator("[src]")).wait_for(state="attached")
    return [image.get_attribute("src") or "" for image in images.all()]


def told(page: Page, place: str, text: str) -> None:
    """Wait for a message at a place, and see that it stands beside the field or button there."""
    message = page.locator(f"#{place}").filter(has_text=text)
    message.wait_for()
    section = message.locator("xpath=ancestor::*[self::section or self::form or self::header][1]")
    box = message.bounding_box()
    assert box is not None
    causes = section.locator("button, input, img, h1").filter(visible=True).all()
    boxes = [cause.bounding_box() for cause in causes]
    distances = [
        max(box["y"] - other["y"] - other["height"], other["y"] - box["y"] - box["height"])
        for other in boxes
        if other is not None
    ]
    assert min(distances) <= _BESIDE, distances


def silence(page: Page, *but: str) -> None:
    """No place has a message but these."""
    for message in page.locator(".told").all():
        name = message.get_attribute("id") or ""
        assert name in but or message.inner_text() == "", name


def refused(route: Route, status: int, **options: Any) -> None:
    """Answer a request as a service does that refuses it."""
    route.fulfill(status=status, json={"detail": options.pop("detail", "so it is")}, **options)


def checkpoint(path: Path, *, shape: tuple[int, int, int], latent_dim: int) -> Path:
    """An untrained network without a record: it has what a service needs and nothing else."""
    network = models.create("conv", image_shape=shape, latent_dim=latent_dim, width=4)
    description = {
        "schema": models.CHECKPOINT_SCHEMA,
        "model": models.complete({"name": "conv", "width": 4}),
        "image_shape": list(shape),
        "latent_dim": latent_dim,
    }
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": weights, "vaesweep": description}, path)
    return path
