"""A chart of Slicer's plot views: lines or bars over tables of our own, which are never saved with the scene."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import slicer
import vtk

MOST = 4000  # points of a line; when there are more, every other goes
_BLUE, _ORANGE, _GREEN, _RED = (0.12, 0.47, 0.71), (0.9, 0.4, 0.0), (0.17, 0.63, 0.17), (0.84, 0.15, 0.16)
_COLORS = (_BLUE, _ORANGE, _GREEN, _RED, (0.58, 0.4, 0.74), (0.4, 0.4, 0.4))


class Chart:
    """Keeps its values itself: closing the scene takes only the nodes, and `show` makes them again."""

    def __init__(self, title: str, across: str, up: str) -> None:
        """Without any node yet.

        Args:
            across, up: what the axes say.
        """
        self._titles = title, across, up
        self._lines: dict[str, list[tuple[float, float]]] = {}
        self._labels: Sequence[str] = ()
        self._bars: Mapping[str, Sequence[float]] = {}
        self._node: Any = None
        self._tables: dict[str, Any] = {}
        self._nodes: list[Any] = []

    @property
    def is_shown(self) -> bool:
        """Whether there are nodes of it in the scene."""
        return self._node is not None and self._node.GetScene() is not None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be seen yet."""
        return not self._lines and not self._bars

    def set_title(self, title: str) -> None:
        """Rename it."""
        self._titles = (title, *self._titles[1:])
        if self.is_shown:
            self._node.SetTitle(title)

    def add(self, name: str, points: Iterable[tuple[float, float]]) -> None:
        """Go on with a line, or begin one. Bars give way."""
        if self._bars:
            self.clear()
        points = list(points)
        line = self._lines.setdefault(name, [])
        line.extend(points)
        if len(line) > MOST:
            line[:] = line[::-1][:: math.ceil(2 * len(line) / MOST)][::-1]  # the last stays
            self._empty(name)
            points = line
        if self.is_shown and points:
            self._grow(name, points)

    def set_bars(self, labels: Sequence[str], heights: Mapping[str, Sequence[float]]) -> None:
        """A group of bars for each label, with a bar for each series. Takes the place of what was there."""
        self.clear()
        self._labels, self._bars = labels, heights if labels else {}

    def clear(self) -> None:
        """Forget everything, and take the nodes out of the scene."""
        self._lines, self._bars = {}, {}
        self.remove()

    def show(self) -> None:
        """Bring it into the plot view, which becomes part of the layout if it is not."""
        if not self.is_shown:
            self._make()
        slicer.modules.plots.logic().ShowChartInLayout(self._node)

    def remove(self) -> None:
        """Take the nodes out of the scene."""
        for node in reversed(self._nodes):
            if node.GetScene() is not None:
                node.GetScene().RemoveNode(node)
        self._nodes, self._tables, self._node = [], {}, None

    def _make(self) -> None:
        self.remove()
        title, across, up = self._titles
        self._node = self._added("vtkMRMLPlotChartNode", title)
        self._node.SetTitle(title)
        self._node.SetXAxisTitle(across)
        self._node.SetYAxisTitle(up)
        for name, points in self._lines.items():
            self._grow(name, points)
        for name, heights in self._bars.items():
            self._add_bars(name, heights)

    def _grow(self, name: str, points: list[tuple[float, float]]) -> None:
        if name not in self._tables:
            self._tables[name] = self._new_line(name)
        node = self._tables[name]
        columns = [node.GetTable().GetColumn(index) for index in range(2)]
        for point in points:
            for column, value in zip(columns, point, strict=True):
                column.InsertNextValue(value)
        for column in columns:
            column.Modified()
        node.GetTable().Modified()
        node.Modified()

    def _empty(self, name: str) -> None:
        if name in self._tables:
            table = self._tables[name].GetTable()
            for index in range(table.GetNumberOfColumns()):
                table.GetColumn(index).Initialize()

    def _new_line(self, name: str) -> Any:
        node = self._added("vtkMRMLTableNode", f"{name} table")
        for title in ("step", name):
            column = vtk.vtkFloatArray()
            column.SetName(title)
            node.GetTable().AddColumn(column)
        self._add_series(name, node, slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter).SetXColumnName("step")
        return node

    def _add_bars(self, name: str, heights: Sequence[float]) -> None:
        node = self._added("vtkMRMLTableNode", f"{name} table")
        for column, title, values in (
            (vtk.vtkStringArray(), "label", self._labels),
            (vtk.vtkFloatArray(), name, heights),
        ):
            column.SetName(title)
            for value in values:
                column.InsertNextValue(value)
            node.GetTable().AddColumn(column)
        self._add_series(name, node, slicer.vtkMRMLPlotSeriesNode.PlotTypeBar).SetLabelColumnName("label")

    def _add_series(self, name: str, table: Any, kind: int) -> Any:
        series = self._added("vtkMRMLPlotSeriesNode", name)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetPlotType(kind)
        series.SetYColumnName(name)
        series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
        series.SetColor(*_COLORS[self._node.GetNumberOfPlotSeriesNodes() % len(_COLORS)])
        self._node.AddAndObservePlotSeriesNodeID(series.GetID())
        return series

    def _added(self, kind: str, name: str) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(kind == "vtkMRMLTableNode")
        self._nodes.append(node)
        return node
