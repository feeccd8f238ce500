"""3D Slicer's scene and this library. The only room that imports slicer and vtk: import its modules inside Slicer."""
