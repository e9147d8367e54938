"""The tree of commands. A command registers itself here; each is a function whose docstring is its help."""

import tyro

app = tyro.extras.SubcommandApp()
teachers = tyro.extras.SubcommandApp()
app.command(teachers, name="teachers")
train = tyro.extras.SubcommandApp()
app.command(train, name="train")
data = tyro.extras.SubcommandApp()
app.command(data, name="data")
