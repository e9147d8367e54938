"""What teachers know of a photo: the light keypoint teacher and how to get its file."""
