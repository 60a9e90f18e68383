"""The capstone: five messages of clients whose photographs are unknown, what is handed in, and its grade.

Read `messages` (what the server has), `drawn` (recovered rows as pictures), `hand_in` (what a student sends off),
`grade` (what a teacher's key makes of it). The key, and the script that makes messages and key, are in the folder
`teaching` of the project; no notebook has them. May import `spear_core` and `spear_widgets.kit`, no notebook's
folder.
"""
