"""A feature extractor from an ONNX file, which can compute and nothing else.

ONNX's own operators neither read nor write files. What could is refused before onnxruntime sees
it: tensors that lie in other files, and operators that are not ONNX's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.cli import commands

_RULE = "`evaluation.feature_extractor` must be an ONNX file that"
_MOST_BYTES = 2**31 - 1  # as protobuf has it
_TYPES = {
    "tensor(uint8)": torch.uint8,
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
}
_ONNX_OWN = ("", "ai.onnx")


class OnnxExtractor:
    """Maps uint8 images (B, 3, H, W) to the first output of an ONNX network.

    Args:
        path: of the file. A network of a fixed batch size gets its last batch filled up.
        device: where it should run; the CPU where onnxruntime has no other.

    Raises:
        ValueError: the file cannot be read, refers to other files, uses operators that are not
            ONNX's own, or takes something else.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise ValueError(
                f"{_RULE} onnxruntime runs, but {error.name} is not installed; "
                f"{commands.install('features')}"
            ) from error
        content = _read(path)
        _check(onnx, content, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors, which are raised
        wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
        found = [p for p in wanted if p in onnxruntime.get_available_providers()]
        self._errors = _errors(onnxruntime)
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=[*found, "CPUExecutionProvider"]
            )
        except self._errors as error:
            raise ValueError(f"{_RULE} can be run, but {path}: {_first_line(error)}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _TYPES or len(inputs[0].shape) != 4:
            got = ", ".join(f"{one.type} {one.shape}" for one in inputs)
            raise ValueError(f"{_RULE} takes uint8 or float images (B, 3, H, W), but {path}: {got}")
        (self._input,) = inputs

    def __call__(self, images: Tensor) -> Tensor:
        size = self._input.shape[0]
        if not isinstance(size, int):
            return self._run(images)
        filled = [
            torch.cat([part, part[-1:].expand(size - len(part), -1, -1, -1)])
            for part in images.split(size)
        ]
        return torch.cat([self._run(part) for part in filled])[: len(images)]

    def _run(self, images: Tensor) -> Tensor:
        values = images.to("cpu", _TYPES[self._input.type]).contiguous().numpy()
        try:
            features = self._session.run(None, {self._input.name: values})[0]
        except self._errors as error:
            raise RuntimeError(_first_line(error)) from error
        return torch.as_tensor(features).to(images.device)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{_RULE} has at most 2 GiB, but {path} has more")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{_RULE} can be read, but {path}: {error.strerror}") from error


def _check(onnx: Any, content: bytes, path: Path) -> None:
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise ValueError(f"{_RULE} can be read, but {path} is none: {error}") from error
    own = {*_ONNX_OWN, *(function.domain for function in model.functions)}
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto) and (
            message.external_data or message.data_location == onnx.TensorProto.EXTERNAL
        ):
            raise ValueError(
                f"{_RULE} holds all of its weights, but {path} refers to other files; save it "
                "again with onnx.save(model, path, save_as_external_data=False)"
            )
        if isinstance(message, onnx.NodeProto) and message.domain not in own:
            raise ValueError(
                f"{_RULE} uses ONNX's own operators, but {path} uses "
                f"{message.op_type} of {message.domain}; export it again for onnxruntime's CPU"
            )


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all that it holds, subgraphs too."""
    waiting = [message]
    while waiting:
        found = waiting.pop()
        yield found
        for field, value in found.ListFields():
            if field.message_type is None:
                continue
            waiting += [value] if hasattr(value, "ListFields") else list(value)


def _errors(onnxruntime: Any) -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its exceptions have no class in common."""
    own = vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
    kinds = [one for one in own if isinstance(one, type) and issubclass(one, Exception)]
    return (*kinds, RuntimeError, ValueError)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
