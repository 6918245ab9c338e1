"""Latents of documents as NumPy arrays or PyTorch tensors.

NumPy and PyTorch are optional: `pip install c3serve[numpy]` or `c3serve[torch]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
    import torch

_LENGTH_BYTES = 8
_KEYS = ("c3.latents.2", "c3.latents.3")
# Values of a block of the codecs q8_0 and q4_0. A block has one scale, an f16.
_BLOCK = 32
_SCALE_BYTES = 2


@dataclass(frozen=True)
class Window:
    """A part of a document that is decoded separately, and its latents.

    Attributes:
        start: Offset of the first byte in the document.
        end: Offset after the last byte.
        latents: Number of latents.
        width: Numbers in a latent.
        tokens: Text tokens of the window.
        ratio: Text tokens per latent.
        codec: Encoding in which the latents are stored.
        hash: BLAKE3 hash of the window's text.
        corrections: Pairs of token position and token id; None if not verified.
        dtype: Type of `data`: "F32", "BF16", or "U8" for encoded bytes.
        data: The tensor as it was received, without a copy.
    """

    start: int
    end: int
    latents: int
    width: int
    tokens: int
    ratio: int
    codec: str
    hash: str
    corrections: Sequence[tuple[int, int]] | None
    dtype: str
    data: memoryview

    def numpy(self) -> numpy.ndarray[Any, Any]:
        """Returns the latents as a float32 array of shape [latents, width].

        The array shares memory with the received bytes if these are float32; otherwise it is decoded.
        """
        import numpy

        shape = (self.latents, self.width)
        if self.dtype == "F32":
            return numpy.frombuffer(self.data, dtype="<f4").reshape(shape)
        if self.dtype == "BF16":
            halves = numpy.frombuffer(self.data, dtype="<u2").astype("<u4")
            return (halves << 16).view("<f4").reshape(shape)
        blocks = numpy.frombuffer(self.data, dtype=numpy.uint8)
        if self.codec == "q8_0":
            blocks = blocks.reshape(-1, _SCALE_BYTES + _BLOCK)
            values = blocks[:, _SCALE_BYTES:].view(numpy.int8).astype(numpy.float32)
        elif self.codec == "q4_0":
            blocks = blocks.reshape(-1, _SCALE_BYTES + _BLOCK // 2)
            quants = blocks[:, _SCALE_BYTES:]
            values = numpy.concatenate([quants & 15, quants >> 4], axis=1).astype(numpy.float32) - 8
        else:
            raise ValueError(f"unknown codec {self.codec}")
        scales = numpy.ascontiguousarray(blocks[:, :_SCALE_BYTES]).view("<f2").astype(numpy.float32)
        return (values * scales).reshape(shape)

    def torch(self) -> torch.Tensor:
        """Returns the latents as a tensor of shape [latents, width].

        The tensor shares memory with the received bytes if these are float32 or bfloat16; otherwise it is float32 and
        decoded. A shared tensor must not be written to.
        """
        import warnings

        import torch

        if self.dtype in ("F32", "BF16"):
            dtype = torch.float32 if self.dtype == "F32" else torch.bfloat16
            with warnings.catch_warnings():
                # PyTorch warns that the memory is read-only.
                warnings.simplefilter("ignore", UserWarning)
                return torch.frombuffer(self.data, dtype=dtype).reshape(self.latents, self.width)
        return torch.from_numpy(self.numpy())


class Latents(Sequence[Window]):
    """The windows of a document or a text, in text order.

    Attributes:
        document: Description of the document; None if the text was not stored.
        file: The safetensors file, as the gateway sent it.
    """

    def __init__(self, file: bytes) -> None:
        """Parses a safetensors file of the gateway, or of `c3 latents`.

        Raises:
            ValueError: The file is not a latents file.
        """
        self.file = file
        length = int.from_bytes(file[:_LENGTH_BYTES], "little")
        start = _LENGTH_BYTES + length
        if len(file) < start:
            raise ValueError("the latents file ends too early")
        header: dict[str, Any] = json.loads(file[_LENGTH_BYTES:start])
        metadata = header.get("__metadata__", {})
        entry = next((metadata[key] for key in _KEYS if key in metadata), None)
        if entry is None:
            raise ValueError("not a latents file")
        description = json.loads(entry)
        self.document: Mapping[str, Any] | None = description.get("document")
        data = memoryview(file)[start:]
        self._windows = [
            self._window(record, header[f"window.{number}"], data)
            for number, record in enumerate(description["windows"])
        ]

    @staticmethod
    def _window(record: Mapping[str, Any], tensor: Mapping[str, Any], data: memoryview) -> Window:
        begin, end = tensor["data_offsets"]
        pairs = record.get("corrections")
        return Window(
            start=record["start"],
            end=record["end"],
            latents=record["latents"],
            width=record["width"],
            tokens=record["tokens"],
            ratio=record["ratio"],
            codec=record["codec"],
            hash=record["hash"],
            corrections=None if pairs is None else [(position, token) for position, token in pairs],
            dtype=tensor["dtype"],
            data=data[begin:end],
        )

    def __len__(self) -> int:
        """Returns the number of windows."""
        return len(self._windows)

    def __getitem__(self, index: Any) -> Any:
        """Returns a window, or the windows of a slice."""
        return self._windows[index]

    def __iter__(self) -> Iterator[Window]:
        """Iterates over the windows."""
        return iter(self._windows)

    def numpy(self) -> list[numpy.ndarray[Any, Any]]:
        """Returns the latents of each window as an array; see `Window.numpy`."""
        return [window.numpy() for window in self._windows]

    def torch(self) -> list[torch.Tensor]:
        """Returns the latents of each window as a tensor; see `Window.torch`."""
        return [window.torch() for window in self._windows]
