"""The executor over a physical NVIDIA GPU.

pycuda makes contexts and holds memory; NVIDIA's `cuda.bindings` does what needs a raw address or a
handle that pycuda keeps to itself: modules, launches, streams, events, copies, page-locking. Work
is queued on real streams and nothing here ever blocks: whoever waits gets a poll. Taking away
page-locked memory is the exception: its copies must be over first.

The primary context belongs to this module: page-locking is done in it, portable to every context of
the guest. The guest's first context is made ahead of need, because that takes a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Sequence

from vgpu_host.executors.base import Graph, GraphOperation, Stream
from vgpu_host.executors.blas import BlasCall
from vgpu_host.executors.cuda_blas import CudaBlas
from vgpu_host.executors.cuda_graphs import CudaGraph, GraphBuilder
from vgpu_host.executors.cuda_memory import CudaMemory
from vgpu_host.executors.cuda_modules import CudaModules


class CudaExecutor(CudaMemory, CudaModules):
    """A physical GPU; implements `vgpu_host.executors.base.Executor`."""

    def blas_prepare(self) -> None:
        """cublasCreate, once for each context."""
        self._blas()

    def _blas(self) -> CudaBlas:
        context = self._active()
        if context.blas is None:
            context.blas = CudaBlas()
        return context.blas

    def blas(self, call: BlasCall, stream: Stream | None) -> None:
        """The routine of cuBLAS."""
        self._blas().run(call, stream)

    def _builder(self) -> GraphBuilder:
        context = self._active()
        if context.graphs is None:
            context.graphs = GraphBuilder(self._driver, self._call)
        return context.graphs

    def graph_instantiate(self, operations: Sequence[GraphOperation]) -> Graph:
        """Capture and cuGraphInstantiate."""
        return self._builder().instantiate(operations)

    def graph_update(self, graph: Graph, operations: Sequence[GraphOperation]) -> None:
        """Capture and cuGraphExecUpdate."""
        assert isinstance(graph, CudaGraph)
        self._builder().update(graph, operations)

    def graph_launch(self, graph: Graph, stream: Stream | None) -> None:
        """cuGraphLaunch."""
        assert isinstance(graph, CudaGraph)
        self._call("cuGraphLaunch", graph.handle, stream or self._null_stream)

    def graph_upload(self, graph: Graph, stream: Stream | None) -> None:
        """cuGraphUpload."""
        assert isinstance(graph, CudaGraph)
        self._call("cuGraphUpload", graph.handle, stream or self._null_stream)

    def graph_destroy(self, graph: Graph) -> None:
        """cuGraphExecDestroy, which lets a launch that is under way end."""
        assert isinstance(graph, CudaGraph)
        self._call("cuGraphExecDestroy", graph.handle)

    def close(self) -> None:
        """Leave everything to the end of the process, which releases it at once."""
        self._leave()
