"""Lattice cells within a closed mesh, counted column by column."""

import numba
import numpy as np


@numba.njit(cache=True)
def filled_cells(vertices, faces, nx, ny, nz):
    """Cells whose centre has winding number >= 1: each face adds its sign to all cells of a column above it."""
    change = np.zeros((nx, ny, nz), np.int32)
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        low_x = min(vertices[i, 0], vertices[j, 0], vertices[k, 0])
        high_x = max(vertices[i, 0], vertices[j, 0], vertices[k, 0])
        low_y = min(vertices[i, 1], vertices[j, 1], vertices[k, 1])
        high_y = max(vertices[i, 1], vertices[j, 1], vertices[k, 1])
        for column_x in range(max(0, int(np.floor(low_x - 0.5))), min(nx, int(np.ceil(high_x + 0.5)))):
            for column_y in range(max(0, int(np.floor(low_y - 0.5))), min(ny, int(np.ceil(high_y + 0.5)))):
                # Columns stand a hair off the centres, so that no regular mesh has an edge right on one.
                x, y = column_x + 0.5 + 0.618e-6, column_y + 0.5 + 0.382e-6
                c, a, b = side_of_edge(vertices, i, j, x, y), side_of_edge(vertices, j, k, x, y), side_of_edge(vertices, k, i, x, y)
                if (a > 0) != (b > 0) or (b > 0) != (c > 0):
                    continue
                z = (a * vertices[i, 2] + b * vertices[j, 2] + c * vertices[k, 2]) / (a + b + c)
                # A face that looks down is where a ray upwards enters.
                cell = max(0, int(np.ceil(z - 0.5)))
                if cell < nz:
                    change[column_x, column_y, cell] += -1 if a > 0 else 1
    inside = np.zeros((nx, ny, nz), np.int8)
    for column_x in range(nx):
        for column_y in range(ny):
            winding = 0
            for cell in range(nz):
                winding += change[column_x, column_y, cell]
                if winding >= 1:
                    inside[column_x, column_y, cell] = 1
    return inside


@numba.njit(cache=True)
def side_of_edge(vertices, i, j, x, y):
    """Twice the signed area of (i, j, point). Computed from the lower index, so that the two faces of an edge agree to the last bit: no ray
    slips between them."""
    if i > j:
        return -_side_of_edge_up(vertices, j, i, x, y)
    return _side_of_edge_up(vertices, i, j, x, y)


@numba.njit(cache=True)
def _side_of_edge_up(vertices, i, j, x, y):
    return (vertices[j, 0] - vertices[i, 0]) * (y - vertices[i, 1]) - (vertices[j, 1] - vertices[i, 1]) * (x - vertices[i, 0])
