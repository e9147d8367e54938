"""Colours of the left and the right hand, wherever hands are drawn: blue and orange of Okabe and Ito's set, told apart by everyone."""

LEFT_RGB = (0, 114, 178)
RIGHT_RGB = (230, 159, 0)
HAND_RGB = (LEFT_RGB, RIGHT_RGB)
